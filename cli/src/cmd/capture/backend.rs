//! The tools of the host that set rules: nftables, or iptables and ip6tables.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::{Args, ValueEnum};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;
use weft_core::capture::{self, CapturePlan, Family};

/// How long a tool may take: it waits for others that change rules.
const LIMIT: Duration = Duration::from_secs(30);
/// Where tools lie that are not on the path of every user.
const FOLDERS: [&str; 4] = ["/usr/sbin", "/sbin", "/usr/local/sbin", "/usr/bin"];
/// Where named network namespaces are.
const NAMESPACES: &str = "/run/netns";

/// Where and by what rules are set.
#[derive(Debug, Clone, Args)]
pub(super) struct BackendArgs {
    /// By what rules are set; auto takes nftables where nft is there
    #[arg(long, value_name = "TOOL", default_value = "auto")]
    backend: Tool,
    /// The network namespace: a name as of `ip netns`, or a path such as /proc/PID/ns/net
    #[arg(long, value_name = "NAME|PATH")]
    netns: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Tool {
    Auto,
    Iptables,
    Nftables,
}

/// A tool that is there, and where it is to work.
#[derive(Debug)]
pub(super) struct Backend {
    kind: Kind,
    netns: Option<PathBuf>,
}

#[derive(Debug)]
enum Kind {
    /// The folder of its programs.
    Iptables(PathBuf),
    /// Its program.
    Nftables(PathBuf),
}

/// A program with its arguments.
#[derive(Debug, Clone)]
pub(super) struct Call(PathBuf, &'static [&'static str]);

impl BackendArgs {
    /// Returns the file of the network namespace, if one is given.
    pub(super) fn namespace(&self) -> anyhow::Result<Option<PathBuf>> {
        let Some(text) = &self.netns else { return Ok(None) };
        let path =
            if text.contains('/') { PathBuf::from(text) } else { Path::new(NAMESPACES).join(text) };
        match path.exists() {
            true => Ok(Some(path)),
            false => bail!("--netns: there is no {}", path.display()),
        }
    }
}

impl Backend {
    /// Finds the tool.
    pub(super) async fn find(args: &BackendArgs) -> anyhow::Result<Self> {
        let netns = args.namespace()?;
        let nftables = || program("nft").map(Kind::Nftables);
        let iptables = || {
            let folder = |path: PathBuf| path.parent().map(Path::to_owned);
            program("iptables-restore").and_then(folder).map(Kind::Iptables)
        };
        let kind = match args.backend {
            Tool::Auto => nftables().or_else(iptables),
            Tool::Iptables => iptables(),
            Tool::Nftables => nftables(),
        };
        let missing = match args.backend {
            Tool::Auto => "neither nft nor iptables-restore is",
            Tool::Iptables => "iptables-restore is not",
            Tool::Nftables => "nft is not",
        };
        let kind = kind.with_context(|| {
            format!("--backend: {missing} installed; install the package nftables or iptables")
        })?;
        Ok(Self { kind, netns })
    }

    pub(super) fn name(&self) -> &'static str {
        match &self.kind {
            Kind::Iptables(_) => "iptables",
            Kind::Nftables(_) => "nftables",
        }
    }

    /// Writes what is to be carried out, by program.
    pub(super) async fn texts(&self, plan: &CapturePlan) -> anyhow::Result<Vec<(Call, String)>> {
        match &self.kind {
            Kind::Nftables(nft) => Ok(vec![(set_nft(nft), capture::ruleset(plan))]),
            Kind::Iptables(folder) => {
                let mut texts = Vec::new();
                for family in families(folder) {
                    let saved = self.saved(folder, family).await?;
                    let text = capture::restore(plan, family, &saved);
                    texts.push((set_iptables(folder, family), text));
                }
                Ok(texts)
            }
        }
    }

    pub(super) async fn carry_out(&self, texts: &[(Call, String)]) -> anyhow::Result<()> {
        for (call, text) in texts {
            self.run(call, text).await?;
        }
        Ok(())
    }

    /// Takes away all that weft has set; nothing is no fault.
    pub(super) async fn remove(&self) -> anyhow::Result<()> {
        match &self.kind {
            Kind::Nftables(nft) if self.rules().await?.is_empty() => {
                tracing::debug!(nft = %nft.display(), "there is nothing to remove");
                Ok(())
            }
            Kind::Nftables(nft) => self.run(&set_nft(nft), capture::REMOVE).await.map(drop),
            Kind::Iptables(folder) => {
                for family in families(folder) {
                    let saved = self.saved(folder, family).await?;
                    if let Some(text) = capture::removal(&saved) {
                        self.run(&set_iptables(folder, family), &text).await?;
                    }
                }
                Ok(())
            }
        }
    }

    /// Returns the rules that weft has set, as the tool prints them; empty when there are none.
    pub(super) async fn rules(&self) -> anyhow::Result<String> {
        match &self.kind {
            Kind::Nftables(nft) => {
                let tables = self.run(&Call(nft.clone(), &["list", "tables"]), "").await?;
                let ours = format!("table {}", capture::TABLE);
                if !tables.lines().any(|line| line.trim() == ours) {
                    return Ok(String::new());
                }
                let list = &["list", "table", "inet", "weft_capture"];
                self.run(&Call(nft.clone(), list), "").await
            }
            Kind::Iptables(folder) => {
                let mut text = String::new();
                for family in families(folder) {
                    let saved = self.saved(folder, family).await?;
                    for rule in capture::ours(&saved) {
                        text.push_str(&format!("{} -t nat {rule}\n", iptables_name(family)));
                    }
                }
                Ok(text)
            }
        }
    }

    async fn saved(&self, folder: &Path, family: Family) -> anyhow::Result<String> {
        let program = folder.join(format!("{}-save", iptables_name(family)));
        self.run(&Call(program, &["-t", "nat"]), "").await
    }

    async fn run(&self, Call(program, arguments): &Call, input: &str) -> anyhow::Result<String> {
        let shown = program.display();
        let mut command = match &self.netns {
            None => Command::new(program),
            Some(netns) => {
                let mut command = Command::new("nsenter");
                command.arg(format!("--net={}", netns.display())).arg("--").arg(program);
                command
            }
        };
        command.args(*arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("cannot start {shown}"))?;
        if let Some(mut stdin) = child.stdin.take() {
            // A tool that does not read says why by its end.
            let _ = stdin.write_all(input.as_bytes()).await;
        }
        let ended = tokio::time::timeout(LIMIT, child.wait_with_output()).await;
        let output = ended.with_context(|| format!("{shown} takes longer than {LIMIT:?}"))??;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let said = String::from_utf8_lossy(&output.stderr).trim().replace('\n', "; ");
        let hint = match said.contains("not permitted") || said.contains("ermission denied") {
            true => ": rules need root, or CAP_NET_ADMIN",
            false => "",
        };
        bail!("{shown} refuses{hint}: {said}")
    }
}

fn set_nft(nft: &Path) -> Call {
    Call(nft.to_owned(), &["-f", "-"])
}

fn set_iptables(folder: &Path, family: Family) -> Call {
    Call(folder.join(format!("{}-restore", iptables_name(family))), &["--noflush", "--wait"])
}

fn iptables_name(family: Family) -> &'static str {
    match family {
        Family::V4 => "iptables",
        Family::V6 => "ip6tables",
    }
}

/// Returns the families that the host's tools and kernel have.
fn families(folder: &Path) -> Vec<Family> {
    let has_ipv6 =
        folder.join("ip6tables-restore").exists() && Path::new("/proc/sys/net/ipv6").exists();
    if has_ipv6 { vec![Family::V4, Family::V6] } else { vec![Family::V4] }
}

/// Finds a program of the host, also where not every user's path leads.
pub(crate) fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(FOLDERS.iter().map(PathBuf::from));
    folders.map(|folder| folder.join(name)).find(|path| path.is_file())
}
