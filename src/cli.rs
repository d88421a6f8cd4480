//! The command line.

use std::net::SocketAddr;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::cluster::scope::Namespaces;
use crate::names;
use crate::version;

/// A Kubernetes operator for machine-learning workloads.
#[derive(Debug, Parser)]
#[command(name = "trainyard", version = version::described(), about, propagate_version = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What the binary can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Runs the operator until it is told to stop (SIGTERM or Ctrl-C).
    ///
    /// It connects with the pod's ServiceAccount, or with a kubeconfig when it runs outside a cluster, waits until it
    /// holds the lease, and then reconciles every TrainingJob, ModelDeployment, Pipeline and PipelineRun of the cluster, or
    /// of the namespaces that are named.
    Run(RunArgs),
    /// Prints the CustomResourceDefinitions as YAML, for `kubectl apply -f -`.
    Crds,
    /// Prints the ValidatingAdmissionPolicies as YAML, for `kubectl apply -f -`.
    ///
    /// They refuse at once what the operator would otherwise report in an object's status: reserved variables, other
    /// namespaces, edits of a template while pods run.
    Policies,
}

/// How the operator runs.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// Context of the kubeconfig to connect with [default: the current one, or the ServiceAccount of this pod]
    #[arg(long, env = "TRAINYARD_CONTEXT", value_name = "NAME")]
    pub context: Option<String>,

    /// Where /healthz and /readyz are served, without authentication; in a pod, 0.0.0.0:8081 lets the kubelet in
    #[arg(long, env = "TRAINYARD_PROBE_LISTEN", value_name = "ADDRESS:PORT", default_value = "127.0.0.1:8081")]
    pub probe_listen: SocketAddr,

    /// Where /metrics is served, without authentication; in a pod, 0.0.0.0:8080 lets Prometheus in
    #[arg(long, env = "TRAINYARD_METRICS_LISTEN", value_name = "ADDRESS:PORT", default_value = "127.0.0.1:8080")]
    pub metrics_listen: SocketAddr,

    /// Namespaces to serve, separated by commas [default: the whole cluster]
    ///
    /// Each has a lease of its own and needs no rights outside it: one whose lease another operator holds, or that does not
    /// exist yet, holds up no other. Each also has watches and caches of its own, so many namespaces cost more memory and
    /// connections than the whole cluster does.
    #[arg(long, env = "TRAINYARD_NAMESPACES", value_name = "NAMES", default_value = "", hide_default_value = true)]
    pub namespaces: Namespaces,

    /// Namespace of the operator itself [default: the pod's namespace, else that of the kubeconfig's context]
    ///
    /// The lease for the whole cluster is there, and with it the objects of this namespace, and those of kube-system, kube-public
    /// and kube-node-lease, are left alone: pods in them could run under ServiceAccounts that may do far more than users.
    #[arg(long, env = "POD_NAMESPACE", value_name = "NAMESPACE")]
    pub lease_namespace: Option<String>,

    /// Name of the lease; only the operator that holds it writes anything. Operators find each other by it: those of one
    /// cluster should have the same
    #[arg(long, value_name = "NAME", default_value = names::LEASE)]
    pub lease_name: String,

    /// Objects of each kind worked on at a time; with --namespaces, in each of them
    #[arg(long, value_name = "NUMBER", default_value_t = 32, value_parser = clap::value_parser!(u16).range(1..=512))]
    pub concurrency: u16,

    /// Form of the log lines on standard error [default: text on a terminal, else json]
    #[arg(long, value_enum, value_name = "FORM")]
    pub log_format: Option<LogFormat>,

    /// What is logged, such as info, debug or trainyard=debug,kube=info
    #[arg(long, env = "RUST_LOG", value_name = "FILTER", default_value = "info")]
    pub log: String,
}

/// Form of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object per line.
    Json,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_version_is_that_of_the_build() {
        let told = Cli::command().render_version();
        assert_eq!(told, format!("trainyard {}\n", version::described()));
    }

    #[test]
    fn a_list_of_namespaces_that_cannot_be_is_refused_by_the_name_of_its_option() {
        let run = |list: &str| Cli::try_parse_from(["trainyard", "run", "--namespaces", list]);
        assert!(run("a,b").is_ok() && run("").is_ok());
        for (list, expected) in [("a,,b", "name 2 of the list is empty"), ("A", "no name of a namespace")] {
            let error = run(list).unwrap_err().to_string();
            assert!(error.contains("--namespaces <NAMES>") && error.contains(expected), "{error}");
        }
    }
}
