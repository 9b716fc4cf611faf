# Whether a binary needs the C library of the host that it was built on; sourced by the scripts beside it.

needs_libc() { ldd "$1" 2>/dev/null | grep -q 'libc.so'; }

# Ends the script where it does, unless WEFT_PACKAGE_DYNAMIC=1 allows that.
must_be_static() {
    if needs_libc "$1" && [ "${WEFT_PACKAGE_DYNAMIC:-}" != 1 ]; then
        echo "$1 needs the C library of the host it was built on: build it with \`make static\`" >&2
        exit 1
    fi
}
