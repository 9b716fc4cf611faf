//! PostgreSQL under Patroni, which keeps its leader in our key/value store: elected, found by DNS,
//! kept when servers of ours die, moved when asked, replaced when its host is gone.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;
use weft_tests::ports::free_port;
use weft_tests::servers::CLUSTER_LIMIT;
use weft_tests::{Api, Daemon, Servers, TestAgent, consistently, eventually, tools};

use crate::dns::{dig, wait_lines};

/// Two databases are made, copied and started; a crash is noticed when a session of ten seconds is
/// over, which is at twice of that at the latest.
const LIMIT: Duration = Duration::from_secs(90);

/// How long writes go on after a server of ours was killed: well beyond an election.
const WATCHED: Duration = Duration::from_secs(6);

/// What Debian's Patroni and PostgreSQL need to run apart from everything of the system.
const PROGRAMS: [&str; 6] = ["patroni", "patronictl", "psql", "unshare", "setpriv", "dig"];

/// A host of the database: an agent of ours, Patroni, and PostgreSQL under it.
struct Host {
    // The database first: it says good-bye to the agent.
    patroni: Option<Daemon>,
    agent: TestAgent,
    address: String,
    rest: u16,
    sql: u16,
    config: PathBuf,
}

impl Host {
    fn new(servers: &Servers, home: &Path, bin: &Path, number: usize, ports: (u16, u16)) -> Self {
        let token = servers.all[0].data().join("join-token");
        let name = format!("pg{number}");
        let mut agent = TestAgent::start(servers.folder.path(), &name, &token);
        // It is there while servers die.
        agent.process.expect_log("");
        let (address, (sql, rest)) = (format!("127.0.7.{number}"), ports);
        let folder = home.join(&name);
        fs::create_dir(&folder).expect("a temporary folder can be written");
        let config = home.join(format!("{name}.yml"));
        let consul = agent.api().addr();
        let (folder, bin) = (folder.display(), bin.display());
        let text = format!(
            "scope: shop\nname: {name}\n\
             restapi:\n  listen: {address}:{rest}\n  connect_address: {address}:{rest}\n\
             consul:\n  host: {consul}\n  register_service: true\n  service_check_interval: 1s\n\
             bootstrap:\n  dcs:\n    ttl: 20\n    loop_wait: 1\n    retry_timeout: 9\n    \
             synchronous_mode: true\n    postgresql:\n      use_pg_rewind: true\n  \
             initdb: [encoding: UTF8, locale: C, wal-segsize: '1', no-sync]\n  pg_hba:\n  \
             - host all all 127.0.0.0/8 trust\n  - host replication all 127.0.0.0/8 trust\n\
             postgresql:\n  listen: {address}:{sql}\n  connect_address: {address}:{sql}\n  \
             data_dir: {folder}/data\n  bin_dir: {bin}\n  pgpass: {folder}/pgpass\n  \
             authentication:\n    superuser: {{username: postgres}}\n    \
             replication: {{username: standby}}\n  \
             parameters: {{unix_socket_directories: {folder}, fsync: off}}\n"
        );
        fs::write(&config, text).expect("a temporary folder can be written");
        if as_root() {
            let owned = ["-R", "postgres:postgres", &folder.to_string()];
            tools::run("chown", &owned).ok().expect("the folder is given to postgres");
        }
        Self { patroni: None, agent, address, rest, sql, config }
    }

    /// Starts Patroni in a process namespace of its own: when it is killed, PostgreSQL is, as when
    /// a host dies, and nothing is left behind however the test ends.
    fn start(&mut self) {
        let mut command = apart();
        command.arg(tools::find("patroni").expect("it was found")).arg(&self.config);
        let name = self.config.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let folder = self.config.parent().expect("it lies in a folder");
        self.patroni = Some(Daemon::program(&format!("patroni-{name}"), folder, command));
    }

    /// What Patroni says of itself.
    fn state(&self) -> Result<Value, String> {
        let at = format!("{}:{}", self.address, self.rest);
        let addr = at.parse().map_err(|_| format!("{at} is no address"))?;
        serde_json::from_str(&Api::new(addr).get("/patroni")?.body)
            .map_err(|error| error.to_string())
    }
}

fn as_root() -> bool {
    tools::run("id", &["-u"]).stdout.trim() == "0"
}

/// The start of a command that runs in a process namespace of its own, and not as root, as
/// PostgreSQL refuses that.
fn apart() -> Command {
    let mut command = Command::new(tools::find("setpriv").expect("it was found"));
    command.args(["--pdeathsig", "KILL", "unshare", "--pid", "--fork", "--kill-child"]);
    command.arg("--mount-proc");
    if as_root() {
        command.args(["setpriv", "--reuid", "postgres", "--regid", "postgres", "--init-groups"]);
        command.args(["--pdeathsig", "KILL"]);
    } else {
        command.args(["--user", "--map-current-user"]);
    }
    // Debian's own libraries, whatever else is installed.
    command.env("PATH", "/usr/bin:/bin").env_remove("PYTHONPATH").env("PGCONNECT_TIMEOUT", "3");
    command
}

/// Debian's folder of PostgreSQL's programs, the newest.
fn postgres_bin() -> Option<PathBuf> {
    let folders = fs::read_dir("/usr/lib/postgresql").ok()?.flatten();
    let bins = folders.map(|folder| folder.path().join("bin"));
    bins.filter(|bin| bin.join("postgres").is_file() && bin.join("initdb").is_file()).max()
}

/// Whether all is there, or the test is skipped and says what is missing.
fn found(test: &str) -> Option<PathBuf> {
    if !tools::have(test, &PROGRAMS) {
        return None;
    }
    let Some(bin) = postgres_bin() else {
        tools::skip(test, "no PostgreSQL server (Debian's postgresql)");
        return None;
    };
    let has_library = Command::new("/usr/bin/python3")
        .args(["-c", "import consul, patroni"])
        .env_remove("PYTHONPATH")
        .output();
    if !has_library.is_ok_and(|ran| ran.status.success()) {
        tools::skip(test, "no Consul library for Patroni (Debian's python3-consul)");
        return None;
    }
    let mut probe = apart();
    if !probe.arg("true").output().is_ok_and(|ran| ran.status.success()) {
        tools::skip(test, "no process namespaces, or no user postgres,");
        return None;
    }
    Some(bin)
}

/// The database as its users see it: by names of the mesh.
struct Database {
    hosts: Vec<Host>,
    servers: Servers,
    _home: tempfile::TempDir,
    home: PathBuf,
}

impl Database {
    fn start(bin: &Path) -> io::Result<Self> {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir()?;
        // PostgreSQL's user must get through.
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755))?;
        let servers = Servers::start(3);
        servers.wait_members(0, 3, 0);
        let home = folder.path().to_owned();
        // One port for all of them, each at an address of its own, as on hosts.
        let ports = (free_port(), free_port());
        let hosts = (1..=2).map(|number| Host::new(&servers, &home, bin, number, ports));
        let mut hosts: Vec<Host> = hosts.collect();
        hosts.iter_mut().for_each(Host::start);
        Ok(Self { hosts, servers, _home: folder, home })
    }

    /// Where a name of the mesh leads, as the agent of a host says.
    fn lead(&self, asked: usize, name: &str, to: &[usize]) {
        let wanted: Vec<&str> = to.iter().map(|at| self.hosts[*at].address.as_str()).collect();
        eventually(LIMIT, &format!("{name} leads to {wanted:?}"), || {
            let said = dig(self.hosts[asked].agent.dns(), &["+short", name])?;
            if said.lines().eq(wanted.iter().copied()) { Ok(()) } else { Err(self.told(&said)) }
        });
    }

    fn told(&self, said: &str) -> String {
        let states: Vec<_> = self.hosts.iter().map(Host::state).collect();
        format!("{said:?}; {states:?}")
    }

    /// Runs SQL where `primary.shop.service.mesh` leads.
    fn sql(&self, asked: usize, text: &str) -> Result<String, String> {
        let name = "primary.shop.service.mesh";
        let dns = self.hosts[asked].agent.dns();
        let address = dig(dns, &["+short", name])?;
        let srv = dig(dns, &["+short", "SRV", name])?;
        let port = srv.split_whitespace().nth(2).ok_or_else(|| format!("no port in {srv:?}"))?;
        let login = ["-h", address.trim(), "-p", port, "-U", "postgres", "-d", "postgres"];
        tools::run("psql", &[&login[..], &["-XAtqc", text]].concat()).ok()
    }

    /// Waits until each commit is copied to the other host, and Patroni counts on that.
    fn wait_copied(&self, primary: usize) {
        let standby = format!("pg{}", 2 - primary);
        let told = |name: &str| (format!("pg{}", primary + 1), name.to_owned());
        eventually(LIMIT, &format!("{standby} has each commit"), || {
            let said = self.hosts[primary].agent.api().get("/v1/kv/service/shop/sync?raw")?.ok()?;
            let said: Value = serde_json::from_str(&said.body).map_err(|it| it.to_string())?;
            let word = |field: &str| said[field].as_str().unwrap_or_default().to_owned();
            if (word("leader"), word("sync_standby")) == told(&standby) {
                return Ok(());
            }
            Err(self.told(&said.to_string()))
        });
    }
}

#[test]
fn patroni_keeps_its_leader_in_weft_and_clients_find_it() {
    let Some(bin) = found("patroni_keeps_its_leader_in_weft_and_clients_find_it") else { return };
    let began = Instant::now();
    let mut database = Database::start(&bin).expect("folders can be made");
    let first = eventually(LIMIT, "one of them is elected", || {
        let leader = database.servers.all[0].value("service/shop/leader")?;
        let names = ["pg1", "pg2"];
        names.iter().position(|name| *name == leader).ok_or(leader)
    });
    let second = 1 - first;
    database.lead(second, "primary.shop.service.mesh", &[first]);
    database.lead(first, "replica.shop.service.consul", &[second]);
    database.wait_copied(first);
    database.sql(second, "create table sold (item int primary key)").expect("a table is made");
    assert_eq!(database.hosts[first].sql, database.hosts[second].sql);
    tell("elected and copied", began);

    let items = a_server_dies(&mut database, first);
    tell("writes went on while a server died", began);
    switched_over(&database, first);
    tell("switched over", began);
    a_host_dies(&mut database, second, items);
    tell("failed over", began);
}

/// Says how far a story is that takes long, on the stream that the runner does not swallow.
fn tell(step: &str, began: Instant) {
    tools::tell(&format!("patroni: {step} after {:.1} s", began.elapsed().as_secs_f32()));
}

/// Writes go on while the leader among our servers is killed and another one is elected; Patroni
/// stays with its leader. Returns how many rows were written.
fn a_server_dies(database: &mut Database, first: usize) -> u32 {
    let before = database.hosts[first].state().expect("Patroni answers");
    let leader = database.servers.leader(0);
    database.servers.all[leader].process.kill();
    let mut items = 0;
    consistently(WATCHED, "each write is taken", || {
        database.sql(first, &format!("insert into sold values ({items})"))?;
        items += 1;
        Ok(())
    });
    let living = (leader + 1) % 3;
    database.servers.leader(living);
    let after = database.hosts[first].state().expect("Patroni answers");
    for field in ["role", "timeline", "postmaster_start_time"] {
        assert_eq!(before[field], after[field], "{field}: {after}");
    }
    let name = database.servers.all[living].value("service/shop/leader");
    assert_eq!(name.as_deref(), Ok(format!("pg{}", first + 1).as_str()));
    database.servers.all[leader].restart();
    items
}

/// An operator moves the leader to the other host.
fn switched_over(database: &Database, first: usize) {
    let second = 1 - first;
    let (from, to) = (format!("pg{}", first + 1), format!("pg{}", second + 1));
    let config = database.hosts[first].config.to_string_lossy().into_owned();
    let mut command = Command::new(tools::find("patronictl").expect("it was found"));
    command.args(["-c", &config, "switchover", "shop", "--force", "--leader", &from]);
    command.args(["--candidate", &to]).current_dir(&database.home);
    command.env("PATH", "/usr/bin:/bin").env_remove("PYTHONPATH").env("LC_ALL", "C.UTF-8");
    let said = command.output().expect("patronictl runs");
    let said = String::from_utf8_lossy(&[said.stdout, said.stderr].concat()).into_owned();
    assert!(said.contains("Successfully switched over"), "{said}");
    database.lead(first, "primary.shop.service.mesh", &[second]);
    database.lead(second, "replica.shop.service.mesh", &[first]);
    database.wait_copied(second);
}

/// The host of the primary is lost with all its processes: the other one takes over, has every row
/// that was acknowledged, and is found; the lost one comes back behind it.
fn a_host_dies(database: &mut Database, primary: usize, items: u32) {
    let other = 1 - primary;
    database.sql(other, &format!("insert into sold values ({items})")).expect("it is taken");
    database.hosts[primary].patroni.take().expect("it runs").kill();
    let lost = Instant::now();
    database.lead(other, "primary.shop.service.mesh", &[other]);
    let written = eventually(CLUSTER_LIMIT, "it takes writes", || {
        database.sql(other, &format!("insert into sold values ({})", items + 1))
    });
    assert_eq!(written, "");
    tell("written again, counted from the loss of the host,", lost);
    let count = database.sql(other, "select count(*) from sold").expect("it is read");
    assert_eq!(count.trim(), (items + 2).to_string(), "what was acknowledged is there");
    wait_lines(database.hosts[other].agent.dns(), &["replica.shop.service.mesh"], &[]);

    database.hosts[primary].start();
    database.lead(other, "replica.shop.service.mesh", &[primary]);
    database.wait_copied(other);
}
