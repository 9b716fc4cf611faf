//! `weft inject`: sidecars put into manifests, or beside a unit of systemd, without a cluster.

mod settings;
mod unit;

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::Args;
use weft_k8s::inject::Switch;
use weft_k8s::manifest::{Injection, Outcome, Report, inject_file};

pub(crate) use self::settings::InjectSettings;
use crate::output::print_line;

const EXAMPLES: &str = "\
Examples:
  Add the sidecar to what is deployed, as `linkerd inject` does:
    kubectl get deploy -o yaml | weft inject -f - | kubectl apply -f -
  See what would be added to a file of manifests:
    weft inject -f bookinfo.yaml | diff bookinfo.yaml -
  Only to pods that ask for it, or whose namespace in the file does:
    weft inject -f shop.yaml --only-marked
  With the settings of the cluster's webhook:
    weft inject -f shop.yaml --image registry.example/weft:1.0 \\
      --server weft-server.weft-system.svc:8300 --root-fingerprint 5f2c...
  On a host without Kubernetes: what puts a sidecar beside a unit of systemd:
    weft inject --systemd web.service --service web --port 8080";

/// The largest file that is read: all objects of a large cluster have some MiB.
const FILE_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Flags of `weft inject`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct InjectArgs {
    /// A file of manifests in YAML or JSON, or - for standard input; repeatable
    #[arg(long = "file", short = 'f', value_name = "FILE", required_unless_present = "systemd")]
    files: Vec<PathBuf>,
    /// Print one JSON list of all objects instead of the files as YAML
    #[arg(long, conflicts_with = "systemd")]
    json: bool,
    /// The namespace of objects that name none
    #[arg(long, short = 'n', value_name = "NAME", default_value = "default")]
    namespace: String,
    /// Inject only pods that ask for it, themselves or by their namespace's marks in the file
    #[arg(long)]
    only_marked: bool,
    #[command(flatten)]
    settings: InjectSettings,
    #[command(flatten)]
    unit: unit::UnitArgs,
}

pub(crate) async fn run(args: InjectArgs) -> anyhow::Result<ExitCode> {
    if let Some(unit) = &args.unit.systemd {
        print_line(unit::files(unit, &args.unit)?.trim_end())?;
        return Ok(ExitCode::SUCCESS);
    }
    let settings = args.settings.settings();
    let by_default = if args.only_marked { Switch::Unsaid } else { Switch::Enabled };
    let injection = Injection { settings: &settings, by_default, namespace: &args.namespace };
    let (mut yaml, mut objects) = (String::new(), Vec::new());
    for path in &args.files {
        let text = read(path)?;
        let done = inject_file(&text, &injection)
            .with_context(|| format!("{}: nothing is injected", path.display()))?;
        if !yaml.is_empty() && !done.yaml.starts_with("---") {
            yaml.push_str("---\n");
        }
        yaml.push_str(&done.yaml);
        objects.extend(done.objects);
        done.reports.iter().for_each(tell);
    }
    let text = match args.json {
        true => serde_json::to_string_pretty(&objects)? + "\n",
        false => yaml,
    };
    // What comes out goes to another program: to the byte.
    std::io::stdout().write_all(text.as_bytes()).context("cannot write to standard output")?;
    Ok(ExitCode::SUCCESS)
}

/// Tells on standard error what became of an object.
fn tell(report: &Report) {
    match &report.outcome {
        Outcome::Injected(warnings) => {
            eprintln!("{}: injected", report.object);
            for warning in warnings {
                eprintln!("{}: {warning}", report.object);
            }
        }
        Outcome::LeftAlone(why) => eprintln!("{}: left alone: {why}", report.object),
    }
}

fn read(path: &Path) -> anyhow::Result<String> {
    let mut text = String::new();
    let result = if path == Path::new("-") {
        std::io::stdin().take(FILE_BYTES_MAX + 1).read_to_string(&mut text)
    } else {
        std::fs::File::open(path)
            .and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text))
    };
    let bytes = result.with_context(|| format!("cannot read {}", path.display()))?;
    if u64::try_from(bytes).unwrap_or(u64::MAX) > FILE_BYTES_MAX {
        bail!("{} has more than {} MiB", path.display(), FILE_BYTES_MAX >> 20);
    }
    Ok(text)
}
