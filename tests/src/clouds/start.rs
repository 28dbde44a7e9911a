//! Bringing clouds up, waiting until they serve, and taking them down.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::binaries;
use super::certificates::{self, Authority};
use super::layout::{Cloud, Layout, Node, Proxy, Shard, Sidecar};
use super::plan::Plan;
use super::ports::Ports;
use super::process::Process;
use crate::client::Client;
use crate::toxi::Toxiproxy;
use crate::wait;

/// How long a cloud may take to serve after its processes were started.
pub const READY_MAX: Duration = Duration::from_secs(30);

/// Clouds that this process brought up. Dropped, they end (unless they are detached), and a
/// panic in any of their logs fails the test.
pub struct Clouds {
    /// Who is where.
    pub layout: Layout,
    /// The toxic proxies, if the plan asked for them: `<name>-stream`, `<name>-client`, where the
    /// name is such as `a-0`.
    pub toxics: Option<Toxiproxy>,
    plan: Plan,
    _ports: Ports,
    // Tests that keep nothing put everything here.
    _scratch: Option<tempfile::TempDir>,
}

impl Clouds {
    /// Two clouds, all up, in a scratch directory: what most stories begin with.
    pub fn for_test() -> Self {
        Self::for_test_with(|plan| plan)
    }

    /// The same with a changed plan.
    pub fn for_test_with(change: impl FnOnce(Plan) -> Plan) -> Self {
        let scratch = tempfile::Builder::new().prefix("godwit-clouds-").tempdir();
        let scratch = scratch.expect("a scratch directory can be made");
        let plan = change(Plan::two_clouds(scratch.path()));
        let mut clouds = Self::create(plan).expect("two clouds can be planned");
        clouds._scratch = Some(scratch);
        clouds.start_all().unwrap_or_else(|error| panic!("{error:#}"));
        clouds
    }

    /// Plans everything and creates the service; nothing runs yet.
    pub fn create(plan: Plan) -> Result<Self> {
        for dir in ["log", "data", "registry"] {
            let dir = plan.dir.join(dir);
            fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
        }
        let mut ports = Ports::reserve()?;
        let authority = match plan.tls {
            true => Some(Authority::create(&plan.dir.join("tls"), "two clouds")?),
            false => None,
        };
        let toxics = if plan.toxics { Some(Toxiproxy::open()?) } else { None };
        let dir = fs::canonicalize(&plan.dir)?;
        let registry = plan.registry.clone();
        let registry =
            registry.unwrap_or_else(|| format!("file:{}", dir.join("registry").display()));
        let mut layout =
            Layout { dir, registry, service: plan.service.clone(), clouds: Vec::new() };
        for (name, shards) in &plan.clouds {
            let cloud = plan_cloud(&plan, &layout, name, shards, &mut ports, toxics.as_ref())?;
            layout.clouds.push(cloud);
        }
        if let Some(authority) = &authority {
            for (cloud, shards) in &plan.clouds {
                for n in 0..shards.len() {
                    let name = format!("{n}.{cloud}.{}.godwit", plan.service);
                    authority.sign(&format!("{cloud}-{n}"), &name)?;
                }
            }
            let name = format!("snapshotter.{}.godwit", plan.service);
            authority.sign("snapshotter", &name)?;
        }
        init(&plan, &layout)?;
        Ok(Self { layout, toxics, plan, _ports: ports, _scratch: None })
    }

    /// The clouds of an earlier time, to be started again with their data.
    pub fn again(layout: Layout) -> Result<Self> {
        let plan = Plan { detached: true, ..Plan::two_clouds(&layout.dir) };
        Ok(Self { layout, toxics: None, plan, _ports: Ports::reserve()?, _scratch: None })
    }

    /// Starts every cloud and waits until the active one serves writes.
    pub fn start_all(&mut self) -> Result<()> {
        let names = self.layout.clouds.iter().map(|c| c.name.clone());
        let names: Vec<_> = names.filter(|name| !self.plan.later.contains(name)).collect();
        names.iter().try_for_each(|name| self.start_cloud(name))
    }

    /// Starts the processes of a cloud that do not run, and waits until they are ready.
    pub fn start_cloud(&mut self, name: &str) -> Result<()> {
        let cloud = self.layout.clouds.iter_mut().find(|c| c.name == name);
        let cloud = cloud.with_context(|| format!("there is no cloud {name}"))?;
        for process in cloud.processes_mut().filter(|p| !p.alive()) {
            process.start()?;
        }
        self.wait_ready(name)?;
        self.layout.save()
    }

    /// Ends the processes of a cloud: proxies first, nodes last.
    pub fn stop_cloud(&mut self, name: &str) -> Result<()> {
        let cloud = self.cloud_mut(name);
        let mut processes: Vec<_> = cloud.processes_mut().collect();
        processes.reverse();
        processes.into_iter().for_each(Process::end);
        self.layout.save()
    }

    /// Waits until all of a cloud is ready: each process says so, its proxies answer.
    pub fn wait_ready(&self, name: &str) -> Result<()> {
        let cloud = self.cloud(name);
        for shard in &cloud.shards {
            ready(&shard.node.process, &shard.node.metrics)?;
            // A sidecar whose peer is not there yet lives and is not ready: that is no fault.
            live(&shard.sidecar.process, &shard.sidecar.metrics)?;
        }
        for proxy in &cloud.proxies {
            ready(&proxy.process, &proxy.metrics)?;
            wait::until(&format!("{} to serve", proxy.process.name), READY_MAX, || {
                let mut client = Client::connect_with(&proxy.client, Duration::from_secs(2))?;
                // A key of each half: both shards of the active cloud must serve.
                client.call(&["GET", "{a}ready"])?;
                client.call(&["GET", "{b}ready"]).map(drop)
            })?;
        }
        Ok(())
    }

    /// A cloud by name.
    pub fn cloud(&self, name: &str) -> &Cloud {
        let found = self.layout.clouds.iter().find(|c| c.name == name);
        found.unwrap_or_else(|| panic!("there is no cloud {name}"))
    }

    /// A cloud by name.
    pub fn cloud_mut(&mut self, name: &str) -> &mut Cloud {
        let found = self.layout.clouds.iter_mut().find(|c| c.name == name);
        found.unwrap_or_else(|| panic!("there is no cloud {name}"))
    }

    /// A shard by name, such as `a/0`.
    pub fn shard(&mut self, name: &str) -> &mut Shard {
        let mut shards = self.layout.clouds.iter_mut().flat_map(|c| &mut c.shards);
        shards.find(|s| s.name == name).unwrap_or_else(|| panic!("there is no shard {name}"))
    }

    /// Where clients connect: the proxies of all clouds that run.
    pub fn proxies(&self) -> Vec<String> {
        let proxies = self.layout.clouds.iter().flat_map(|c| &c.proxies);
        proxies.filter(|p| p.process.alive()).map(|p| p.client.clone()).collect()
    }

    /// A client at the first proxy of a cloud.
    pub fn client(&self, cloud: &str) -> Result<Client> {
        let proxy = self.cloud(cloud).proxies.first().context("the cloud has no proxy")?;
        Client::connect(&proxy.client)
    }

    /// Ends everything and writes down that nothing runs.
    pub fn down(&mut self) {
        down(&mut self.layout);
    }

    /// Lines of the logs that tell of panics, by process.
    pub fn panics(&self) -> Vec<String> {
        let lines = |p: &Process| {
            let name = p.name.clone();
            p.panics().into_iter().map(move |line| format!("{name}: {line}"))
        };
        self.layout.processes().flat_map(lines).collect()
    }

    /// The ends of all logs, for a failure that nobody can look at later.
    pub fn tails(&self, lines: usize) -> String {
        let tail = |p: &Process| format!("--- {}\n{}\n", p.name, p.tail(lines));
        self.layout.processes().map(tail).collect()
    }
}

impl Drop for Clouds {
    #[allow(clippy::print_stderr)]
    fn drop(&mut self) {
        if self.plan.detached {
            return;
        }
        if thread::panicking() {
            eprintln!("{}", self.tails(15));
        }
        self.down();
        let panics = self.panics();
        assert!(panics.is_empty() || thread::panicking(), "a process panicked: {panics:#?}");
    }
}

/// Ends every process of a layout, proxies first and nodes last, and forgets it.
pub fn down(layout: &mut Layout) {
    let mut processes: Vec<_> = layout.processes_mut().collect();
    processes.sort_by_key(|p| {
        let last = p.name.rsplit('-').next().unwrap_or_default();
        ["proxy", "sidecar", "node"].iter().position(|kind| last.starts_with(kind))
    });
    processes.into_iter().for_each(Process::end);
    // Only a hint for the next command; the processes have ended either way.
    let _ = layout.save_ended();
}

fn plan_cloud(
    plan: &Plan,
    layout: &Layout,
    cloud: &str,
    shards: &[String],
    ports: &mut Ports,
    toxics: Option<&Toxiproxy>,
) -> Result<Cloud> {
    let process = |program: &str, name: String, args: Vec<String>| -> Result<Process> {
        let log = layout.dir.join("log").join(format!("{name}.log"));
        let mut args = args;
        let more = plan.args.iter().filter(|(of, _)| of == program).flat_map(|(_, more)| more);
        args.extend(more.cloned());
        let mut process = Process::new(name.clone(), binaries::path(program)?, args, log);
        process.detached = plan.detached;
        let env = plan.env.iter().filter(|(of, _, _)| *of == name);
        process.env = env.map(|(_, key, value)| (key.clone(), value.clone())).collect();
        Ok(process)
    };
    let service =
        ["--registry", &layout.registry, "--service", &layout.service, "--cluster", cloud];
    let mut made = Cloud { name: cloud.to_owned(), proxies: Vec::new(), shards: Vec::new() };
    for (number, slots) in shards.iter().enumerate() {
        let name = format!("{cloud}-{number}");
        let dir = layout.dir.join("data").join(&name);
        let dir_text = dir.display().to_string();
        let (client, node_metrics) = (ports.next_address()?, ports.next_address()?);
        let (stream, sidecar_metrics) = (ports.next_address()?, ports.next_address()?);
        let admin = format!("unix:{}", dir.join("admin.sock").display());
        let shard = number.to_string();
        let mut node = vec!["--dir", &dir_text, "--listen", &client, "--admin", &admin];
        node.extend(service);
        node.extend(["--shard", &shard, "--metrics", &node_metrics]);
        let mut sidecar = vec!["--node-dir", &dir_text, "--node-admin", &admin];
        sidecar.extend(["--listen", &stream]);
        sidecar.extend(service);
        sidecar.extend(["--shard", &shard, "--metrics", &sidecar_metrics]);
        // What others connect to: the toxic proxy where there is one.
        let announce = |what: &str, to: &str, ports: &mut Ports| -> Result<Option<String>> {
            let Some(toxics) = toxics else { return Ok(None) };
            Ok(Some(toxics.proxy(&format!("{name}-{what}"), &ports.next_address()?, to)?))
        };
        let toxic_client = announce("client", &client, ports)?;
        let toxic_stream = announce("stream", &stream, ports)?;
        if let Some(address) = &toxic_client {
            node.extend(["--announce", address]);
        }
        if let Some(address) = &toxic_stream {
            sidecar.extend(["--announce", address]);
        }
        let tls = match plan.tls {
            true => certificates::flags(&layout.dir.join("tls"), &name),
            false => Vec::new(),
        };
        sidecar.extend(tls.iter().map(String::as_str));
        let owned = |args: &[&str]| args.iter().map(|&a| a.to_owned()).collect::<Vec<_>>();
        let node = process("godwit-node", format!("{name}-node"), owned(&node))?;
        let sidecar = process("godwit-replicator", format!("{name}-sidecar"), owned(&sidecar))?;
        made.shards.push(Shard {
            name: format!("{cloud}/{number}"),
            slots: slots.clone(),
            node: Node { client, admin, metrics: node_metrics, dir, process: node },
            sidecar: Sidecar { stream, metrics: sidecar_metrics, process: sidecar },
        });
    }
    let (client, metrics) = (ports.next_address()?, ports.next_address()?);
    let mut args = vec!["--listen", &client];
    args.extend(service);
    args.extend(["--metrics", &metrics]);
    let args = args.into_iter().map(str::to_owned).collect();
    let proxy = process("godwit-proxy", format!("{cloud}-proxy"), args)?;
    made.proxies.push(Proxy { client, metrics, process: proxy });
    Ok(made)
}

fn init(plan: &Plan, layout: &Layout) -> Result<()> {
    let mut command = Command::new(binaries::path("godwit-switchover")?);
    command.args(["init", "--registry", &layout.registry, "--service", &layout.service]);
    for (name, shards) in plan.clouds.iter().filter(|(name, _)| !plan.later.contains(name)) {
        // Commas part shards; ranges of one shard are joined by `+`.
        let shards: Vec<_> = shards.iter().map(|slots| slots.replace(',', "+")).collect();
        command.args(["--cluster", &format!("{name}={}", shards.join(","))]);
    }
    if let Some((active, _)) = plan.clouds.first() {
        command.args(["--active", active]);
    }
    command.args(["--lease", &format!("{}ms", plan.lease.as_millis())]);
    let out = command.output().context("cannot run godwit-switchover init")?;
    if !out.status.success() {
        bail!("godwit-switchover init failed: {}", String::from_utf8_lossy(&out.stderr).trim());
    }
    Ok(())
}

fn ready(process: &Process, metrics: &str) -> Result<()> {
    healthy(process, metrics, "readyz")
}

fn live(process: &Process, metrics: &str) -> Result<()> {
    healthy(process, metrics, "metrics")
}

fn healthy(process: &Process, metrics: &str, page: &str) -> Result<()> {
    let url = format!("http://{metrics}/{page}");
    wait::until(&format!("{} to be ready", process.name), READY_MAX, || {
        if !process.alive() {
            bail!("it ended; its log says:\n{}", process.tail(10));
        }
        http_get(&url).map(drop)
    })
    .with_context(|| format!("{} says:\n{}", process.name, process.tail(10)))
}

/// The body of a page that answers 200.
pub fn http_get(url: &str) -> Result<String> {
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .timeout_global(Some(Duration::from_secs(2)))
        .build()
        .into();
    let mut answer = agent.get(url).call()?;
    let body = answer.body_mut().read_to_string()?;
    if answer.status() != 200 {
        bail!("{url} answered {}: {}", answer.status(), body.trim());
    }
    Ok(body)
}

/// Where the clouds of a checkout lie, seen from anywhere in it.
pub fn checkout() -> Result<std::path::PathBuf> {
    let here = std::env::current_dir()?;
    let root = here.ancestors().find(|dir| dir.join("Cargo.lock").is_file());
    root.map(Path::to_path_buf).context("run this inside the checkout: no Cargo.lock above here")
}
