"""Writes a folder as an image of one layer, in the layout of the OCI image specification, version 1.0.

    python3 layout.py FOLDER ARCHIVE VERSION

The same folder gives the same bytes: files are sorted and have no time.
"""

import gzip
import hashlib
import io
import json
import os
import platform
import sys
import tarfile

USER = 65532
# What belongs to the user of the processes; everything else is root's.
OWN_FOLDERS = ("var/lib/weft", "run/weft")
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


def entry(name, size, mode):
    info = tarfile.TarInfo(name)
    info.size, info.mode, info.mtime = size, mode, 0
    return info


def layer(root):
    """Returns the layer as a tar archive."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for folder, folders, files in os.walk(root):
            folders.sort()
            for name in sorted(folders + files):
                path = os.path.join(folder, name)
                inside = os.path.relpath(path, root)
                is_folder = os.path.isdir(path)
                size = 0 if is_folder else os.path.getsize(path)
                info = entry(inside, size, os.stat(path).st_mode & 0o777)
                if inside in OWN_FOLDERS:
                    info.uid = info.gid = USER
                if is_folder:
                    info.type = tarfile.DIRTYPE
                    archive.addfile(info)
                else:
                    with open(path, "rb") as file:
                        archive.addfile(info, file)
    return packed.getvalue()


def main(root, target, version):
    blobs = {}

    def blob(data, media_type):
        digest = hashlib.sha256(data).hexdigest()
        blobs[digest] = data
        return {"mediaType": media_type, "digest": "sha256:" + digest, "size": len(data)}

    machine = platform.machine()
    plain = layer(root)
    packed = blob(gzip.compress(plain, 9, mtime=0), "application/vnd.oci.image.layer.v1.tar+gzip")
    config = {
        "architecture": ARCHITECTURES.get(machine, machine),
        "os": "linux",
        "config": {
            "User": f"{USER}:{USER}",
            "Entrypoint": ["/usr/bin/weft"],
            "Env": ["PATH=/usr/bin", "RUNTIME_DIRECTORY=/run/weft"],
            "Labels": {
                "org.opencontainers.image.title": "weft",
                "org.opencontainers.image.version": version,
                "org.opencontainers.image.licenses": "Apache-2.0",
            },
        },
        "rootfs": {
            "type": "layers",
            "diff_ids": ["sha256:" + hashlib.sha256(plain).hexdigest()],
        },
    }
    described = blob(json.dumps(config).encode(), "application/vnd.oci.image.config.v1+json")
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": described,
        "layers": [packed],
    }
    top = blob(json.dumps(manifest).encode(), "application/vnd.oci.image.manifest.v1+json")
    top["annotations"] = {"org.opencontainers.image.ref.name": f"weft:{version}"}
    files = {
        "oci-layout": b'{"imageLayoutVersion":"1.0.0"}',
        "index.json": json.dumps({"schemaVersion": 2, "manifests": [top]}).encode(),
    }
    files.update({f"blobs/sha256/{digest}": data for digest, data in blobs.items()})
    with tarfile.open(target, "w", format=tarfile.GNU_FORMAT) as archive:
        for name, data in sorted(files.items()):
            archive.addfile(entry(name, len(data), 0o644), io.BytesIO(data))


if __name__ == "__main__":
    main(*sys.argv[1:])
