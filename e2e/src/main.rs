//! The command line of the embedded cluster.

use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{ExitCode, ExitStatus};

use anyhow::{Context, Result};
use clap::{Args, Parser, Subcommand};
use e2e::images::Image;
use e2e::{Build, Cluster, ClusterOptions, Error, NodeOptions, Status, Up, until_interrupted};
use e2e::{all, bench, demo, images};

/// A real Kubernetes on this machine, with fake nodes and a real one, and what runs on it.
#[derive(Debug, Parser)]
#[command(version, about)]
struct Arguments {
    #[command(subcommand)]
    command: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Builds what everything else needs, so that nothing else has to wait for it.
    Build,
    /// Builds what is missing, boots a cluster and leaves it running.
    Up(Options),
    /// Stops that cluster and removes everything of it but what is built: programs and images.
    Down,
    /// Shows that cluster's processes; exits with 1 unless it is healthy.
    Status,
    /// Prints the path of that cluster's kubeconfig.
    Kubeconfig,
    /// Runs kubectl, of the cluster's own version, against that cluster.
    Kubectl {
        /// kubectl's arguments.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Runs a command with KUBECONFIG set to a cluster of its own, which goes when the command ends.
    Run {
        #[command(flatten)]
        options: Options,
        /// The command and its arguments.
        #[arg(last = true, required = true)]
        command: Vec<String>,
    },
    /// Trains a model on real pods, deploys it, asks it, and puts the next one in its place under load: everything from
    /// nothing.
    Demo(demo::Arguments),
    /// Builds the operator's image, without Docker, and writes it to a file: an OCI archive, for `kind load
    /// image-archive`, `ctr images import` or `skopeo copy oci-archive:FILE docker://...`.
    Image(ImageArguments),
    /// Writes the operator's image and those of the tests and the demo to files, for registries and clusters elsewhere.
    Images {
        /// The folder for the files.
        folder: PathBuf,
    },
    /// Runs everything that is too long for CI: about three quarters of an hour, and 25 GB of disk the first time.
    All(all::Arguments),
    /// Measures the operator against its budgets; run it with `cargo run --release -p e2e -- bench ...`.
    Bench(bench::Arguments),
}

#[derive(Debug, Args)]
struct ImageArguments {
    /// The file to write [default: trainyard.tar in cargo's target folder]
    file: Option<PathBuf>,
    /// The reference that it is imported under.
    #[arg(long, value_name = "IMAGE", default_value = images::DEFAULT_REFERENCE)]
    reference: String,
    /// As the tests build it: in less time, larger, without its commit.
    #[arg(long)]
    debug: bool,
}

#[derive(Debug, Args)]
struct Options {
    /// Boot a real node beside the fake ones, with every image of the tests; needs root.
    #[arg(long)]
    node: bool,
    /// How many fake nodes to make.
    #[arg(long, default_value_t = ClusterOptions::default().fake_nodes)]
    fake_nodes: usize,
    /// Write the apiserver's audit log to this file.
    #[arg(long)]
    audit_log: Option<PathBuf>,
    /// One more flag for kube-apiserver, such as --feature-gates=X=true. May be repeated.
    #[arg(long = "apiserver-flag", value_name = "FLAG", allow_hyphen_values = true)]
    apiserver_flags: Vec<String>,
    /// One more flag for kube-controller-manager.
    #[arg(long = "controller-manager-flag", value_name = "FLAG", allow_hyphen_values = true)]
    controller_manager_flags: Vec<String>,
    /// One more flag for kube-scheduler.
    #[arg(long = "scheduler-flag", value_name = "FLAG", allow_hyphen_values = true)]
    scheduler_flags: Vec<String>,
}

impl Options {
    fn into_cluster(self) -> Result<ClusterOptions> {
        // The apiserver runs in another folder.
        let audit_log = self.audit_log.map(std::path::absolute).transpose().context("--audit-log")?;
        Ok(ClusterOptions {
            audit_log,
            fake_nodes: self.fake_nodes,
            node: self.node.then(|| NodeOptions { images: Image::USUAL.to_vec(), tainted: self.fake_nodes > 0 }),
            apiserver_flags: self.apiserver_flags,
            controller_manager_flags: self.controller_manager_flags,
            scheduler_flags: self.scheduler_flags,
        })
    }
}

fn main() -> ExitCode {
    if let Some(code) = e2e::dispatch() {
        return code;
    }
    match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime.block_on(run_task()),
        Err(error) => {
            eprintln!("error: starting: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run_task() -> ExitCode {
    let done = match Arguments::parse().command {
        // It takes down what it has put up by itself, also in clusters of other people.
        Task::Demo(arguments) => demo::run(arguments).await.map(|_| ExitCode::SUCCESS),
        task => until_interrupted(execute(task)).await,
    };
    match done {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            match error.downcast_ref() {
                // As a shell reports it.
                Some(Error::Interrupted(_)) => ExitCode::from(130),
                _ => ExitCode::FAILURE,
            }
        }
    }
}

fn running_kubeconfig() -> Result<PathBuf> {
    let kubeconfig = e2e::kubeconfig()?;
    anyhow::ensure!(kubeconfig.is_file(), "no cluster is up: run `cargo run -p e2e -- up`");
    Ok(kubeconfig)
}

async fn execute(task: Task) -> Result<ExitCode> {
    match task {
        Task::Build => {
            e2e::ensure_binaries().await?;
            e2e::ensure_node_binaries().await?;
            e2e::ensure_helm().await?;
        }
        Task::Up(options) => {
            let (what, kubeconfig) = match e2e::up(options.into_cluster()?).await? {
                Up::Already(kubeconfig) => ("already running", kubeconfig),
                Up::Booted(kubeconfig) => ("running", kubeconfig),
            };
            println!("{what}; export KUBECONFIG={}", kubeconfig.display());
        }
        Task::Down => println!("{}", if e2e::down().await? { "stopped" } else { "not running" }),
        Task::Status => return Ok(show(e2e::status().await?)),
        Task::Kubeconfig => println!("{}", running_kubeconfig()?.display()),
        Task::Kubectl { arguments } => {
            let kubeconfig = running_kubeconfig()?;
            let kubectl = e2e::ensure_binaries().await?.kubectl;
            let command = [vec![kubectl.display().to_string()], arguments].concat();
            return Ok(exit_code(run(&command, &kubeconfig).await?));
        }
        Task::Run { options, command } => {
            let options = options.into_cluster()?;
            let cluster = Cluster::start(options.clone()).await?;
            if options.node.is_some() {
                cluster.node().await?;
            }
            let status = run(&command, cluster.kubeconfig_path()).await;
            cluster.stop().await?;
            return Ok(exit_code(status?));
        }
        Task::All(arguments) => all::run(arguments).await?,
        Task::Bench(arguments) => bench::run(arguments).await?,
        Task::Image(arguments) => write_operator_image(arguments).await?,
        Task::Images { folder } => write_images(&folder).await?,
        Task::Demo(arguments) => demo::run(arguments).await.map(drop)?,
    }
    Ok(ExitCode::SUCCESS)
}

async fn write_operator_image(arguments: ImageArguments) -> Result<()> {
    let build = if arguments.debug { Build::Debug } else { Build::Release };
    let archive = images::operator(build, &arguments.reference).await?;
    let file = match arguments.file {
        Some(file) => file,
        None => e2e::target_folder()?.join("trainyard.tar"),
    };
    archive.write(&file)?;
    println!("file       {}", file.display());
    println!("reference  {}", archive.reference);
    println!("digest     sha256:{}", archive.digest());
    println!("size       {:.1} MB", archive.size() as f64 / 1e6);
    Ok(())
}

async fn write_images(folder: &Path) -> Result<()> {
    std::fs::create_dir_all(folder).with_context(|| format!("creating {}", folder.display()))?;
    let operator = images::operator(Build::Release, images::DEFAULT_REFERENCE).await?;
    for archive in images::ensure(&Image::USUAL).await?.iter().chain([&operator]) {
        let file = folder.join(format!("{}.tar", archive.name()));
        archive.write(&file)?;
        println!("{}  {}", file.display(), archive.reference);
    }
    Ok(())
}

/// The command dies with us, however we die: `setpriv` then becomes it. The kernel means the death of the thread that
/// spawns; this is the main thread, which lives as long as the process.
async fn run(command: &[String], kubeconfig: &Path) -> Result<ExitStatus> {
    let mut child = tokio::process::Command::new("setpriv")
        .args(["--pdeathsig", "KILL", "--"])
        .args(command)
        .env("KUBECONFIG", kubeconfig)
        .kill_on_drop(true)
        .spawn()
        .context("starting setpriv (of util-linux)")?;
    Ok(child.wait().await?)
}

/// The command's own code; as a shell would say it when a signal ended it.
fn exit_code(status: ExitStatus) -> ExitCode {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(1);
    ExitCode::from(u8::try_from(code).unwrap_or(1))
}

fn show(status: Option<Status>) -> ExitCode {
    let Some(status) = status else {
        println!("not running");
        return ExitCode::FAILURE;
    };
    let state = match (status.healthy, status.came_up) {
        (true, _) => "running",
        (false, true) => "broken: run `down`, or `up` to boot it anew",
        (false, false) => "booting, or its boot was cut short: run `up`",
    };
    println!("{state} (since {:#})", status.age);
    for component in &status.components {
        let alive = if component.alive { "running" } else { "gone" };
        println!("  {:<24} pid {:<8} {alive:<8} {}", component.name, component.pid, component.log.display());
    }
    if !status.server.is_empty() {
        println!("server      {}", status.server);
    }
    println!("kubeconfig  {}", status.kubeconfig.display());
    if status.healthy { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
