//! etcd, kube-apiserver, kube-controller-manager and kube-scheduler, as plain processes on loopback.

use std::ffi::OsString;
use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::ServiceAccount;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};

use crate::binaries::Binaries;
use crate::certs::{self, Identity, Pki};
use crate::error::{Error, IoContext};
use crate::kubeconfig;
use crate::network::Network;
use crate::options::ClusterOptions;
use crate::process::{Lifetime, Process, Program};
use crate::progress;
use crate::run_folder::RunFolder;

/// A machine under full load needs ten times the usual 5 s; more than this means that something is wrong.
const BOOT_LIMIT: Duration = Duration::from_secs(120);
const POLL: Duration = Duration::from_millis(50);
const SERVICE_RANGE: &str = "10.96.0.0/16";

/// The parts of a boot that every component needs.
pub(crate) struct Boot<'a> {
    pub(crate) run: &'a mut RunFolder,
    pub(crate) binaries: &'a Binaries,
    pub(crate) options: &'a ClusterOptions,
    /// The network of the real node, if there may be one.
    pub(crate) network: Option<Network>,
    pub(crate) lifetime: Lifetime,
    pub(crate) processes: Vec<Process>,
}

/// How to reach a control plane that is ready.
pub(crate) struct ControlPlane {
    pub(crate) server: String,
    pub(crate) config: Config,
    pub(crate) client: Client,
}

impl Boot<'_> {
    /// Starts all four and waits until the apiserver is ready and the controller manager at work.
    pub(crate) async fn control_plane(&mut self) -> Result<ControlPlane, Error> {
        let [etcd_port, peer_port, apiserver_port] = free_ports()?;
        // A node must reach it. Its network leads to nobody else.
        let address = self.network.map_or(Ipv4Addr::LOCALHOST, Network::host);
        let server = format!("https://{address}:{apiserver_port}");
        let pki = Pki::create(&self.run.path().join("pki"), address)?;
        for identity in certs::USERS {
            kubeconfig::write(&self.kubeconfig(identity), &server, &pki, identity)?;
        }
        let kubeconfig = Kubeconfig::read_from(self.kubeconfig(certs::ADMIN))?;
        let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
        let client = Client::try_from(config.clone()).map_err(api("making a client"))?;

        let etcd = self.binaries.etcd.clone();
        self.start("etcd", etcd, etcd_flags(self.run.path(), etcd_port, peer_port))?;
        let flags = self.apiserver_flags(&pki, etcd_port, apiserver_port)?;
        self.start("kube-apiserver", self.binaries.apiserver.clone(), flags)?;
        self.wait("starting etcd and kube-apiserver", || is_ready(&client)).await?;

        let flags = self.controller_manager_flags(&pki);
        self.start("kube-controller-manager", self.binaries.controller_manager.clone(), flags)?;
        let flags = self.scheduler_flags();
        self.start("kube-scheduler", self.binaries.scheduler.clone(), flags)?;
        // Pods are refused until the controller manager has made their namespace's ServiceAccount.
        let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), "default");
        self.wait("starting kube-controller-manager and kube-scheduler", || async {
            matches!(accounts.get_opt("default").await, Ok(Some(_)))
        })
        .await?;
        Ok(ControlPlane { server, config, client })
    }

    /// The kubeconfig file of one user.
    pub(crate) fn kubeconfig(&self, identity: Identity) -> PathBuf {
        self.run.path().join(certs::kubeconfig_file(identity))
    }

    /// Starts one component and remembers it.
    pub(crate) fn start(&mut self, name: &str, path: PathBuf, flags: Vec<OsString>) -> Result<(), Error> {
        let program = Program {
            name: name.to_owned(),
            path,
            arguments: flags,
            environment: Vec::new(),
            folder: self.run.path().to_owned(),
        };
        let process = Process::spawn(program, &self.run.log(name), self.lifetime)?;
        self.run.remember(process.record())?;
        self.processes.push(process);
        Ok(())
    }

    /// Waits until `ready` says so, see [`until`].
    pub(crate) async fn wait<F>(&mut self, label: &str, ready: impl Fn() -> F) -> Result<(), Error>
    where
        F: Future<Output = bool>,
    {
        until(&mut self.processes, label, ready).await
    }

    fn apiserver_flags(&self, pki: &Pki, etcd_port: u16, port: u16) -> Result<Vec<OsString>, Error> {
        let mut flags = vec![
            flag("etcd-servers", format!("http://127.0.0.1:{etcd_port}")),
            flag("secure-port", port.to_string()),
            flag("service-cluster-ip-range", SERVICE_RANGE),
            flag("tls-cert-file", pki.certificate("apiserver")),
            flag("tls-private-key-file", pki.key("apiserver")),
            flag("client-ca-file", pki.authority()),
            flag("service-account-issuer", "https://kubernetes.default.svc"),
            flag("service-account-signing-key-file", pki.service_account_key()),
            flag("service-account-key-file", pki.service_account_public_key()),
            flag("authorization-mode", "Node,RBAC"),
            // The latter two let a namespace say to which nodes its pods go.
            flag(
                "enable-admission-plugins",
                "OwnerReferencesPermissionEnforcement,PodNodeSelector,PodTolerationRestriction",
            ),
            flag("allow-privileged", "true"),
            flag("profiling", "false"),
            flag("v", "1"),
        ];
        flags.extend(match self.network {
            Some(network) => vec![
                flag("bind-address", network.host().to_string()),
                flag("advertise-address", network.host().to_string()),
                flag("kubelet-preferred-address-types", "InternalIP"),
                flag("kubelet-client-certificate", pki.certificate(certs::KUBELET_CLIENT.file)),
                flag("kubelet-client-key", pki.key(certs::KUBELET_CLIENT.file)),
            ],
            None => vec![
                flag("bind-address", "127.0.0.1"),
                flag("advertise-address", "127.0.0.1"),
                // The `kubernetes` Service must not point at loopback, and nothing here needs it.
                flag("endpoint-reconciler-type", "none"),
            ],
        });
        if let Some(audit_log) = &self.options.audit_log {
            let policy = self.run.path().join("audit-policy.yaml");
            fs::write(&policy, AUDIT_POLICY).context("writing", &policy)?;
            flags.push(flag("audit-policy-file", policy));
            flags.push(flag("audit-log-path", audit_log));
            // One file, however long the run: whoever counts requests must not miss a rotated part.
            flags.push(flag("audit-log-maxsize", "100000"));
        }
        flags.extend(self.options.apiserver_flags.iter().map(OsString::from));
        Ok(flags)
    }

    fn controller_manager_flags(&self, pki: &Pki) -> Vec<OsString> {
        let mut flags = self.client_flags(certs::CONTROLLER_MANAGER);
        flags.extend([
            flag("controllers", "*"),
            flag("use-service-account-credentials", "true"),
            flag("root-ca-file", pki.authority()),
            flag("service-account-private-key-file", pki.service_account_key()),
            // By its usual 20 requests a second a boot takes 5 s longer, and every clean-up waits.
            flag("kube-api-qps", "300"),
            flag("kube-api-burst", "600"),
            // It makes this folder, by default in /usr.
            flag("flex-volume-plugin-dir", self.run.path().join("flexvolume")),
        ]);
        flags.extend(self.options.controller_manager_flags.iter().map(OsString::from));
        flags
    }

    fn scheduler_flags(&self) -> Vec<OsString> {
        let mut flags = self.client_flags(certs::SCHEDULER);
        flags.extend(self.options.scheduler_flags.iter().map(OsString::from));
        flags
    }

    /// What the controller manager and the scheduler have in common: one of each, so no election, and no server.
    fn client_flags(&self, identity: Identity) -> Vec<OsString> {
        let kubeconfig = self.kubeconfig(identity);
        vec![
            flag("kubeconfig", kubeconfig),
            flag("leader-elect", "false"),
            flag("secure-port", "0"),
            flag("profiling", "false"),
            flag("v", "1"),
        ]
    }
}

/// Waits until `ready` says so. A process that ends meanwhile, or too long a wait, is an error that shows the end of the
/// log.
pub(crate) async fn until<F>(processes: &mut [Process], label: &str, ready: impl Fn() -> F) -> Result<(), Error>
where
    F: Future<Output = bool>,
{
    progress::step(label, String::new, async {
        let started = Instant::now();
        loop {
            // A request may hang while its server is half up: it must not outlast the limit.
            if tokio::time::timeout(Duration::from_secs(5), ready()).await.unwrap_or(false) {
                return Ok(());
            }
            for process in processes.iter_mut() {
                if let Some(status) = process.ended() {
                    return Err(process.failure(format!("ended early ({status})")));
                }
            }
            if started.elapsed() > BOOT_LIMIT
                && let Some(latest) = processes.last()
            {
                return Err(latest.failure(format!("was not ready after {} s", BOOT_LIMIT.as_secs())));
            }
            tokio::time::sleep(POLL).await;
        }
    })
    .await
}

/// One line for each request that was answered, without bodies.
const AUDIT_POLICY: &str = "\
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived, ResponseStarted]
rules: [{level: Metadata}]
";

fn etcd_flags(folder: &Path, port: u16, peer_port: u16) -> Vec<OsString> {
    let clients = format!("http://127.0.0.1:{port}");
    let peers = format!("http://127.0.0.1:{peer_port}");
    vec![
        flag("name", "e2e"),
        flag("data-dir", folder.join("etcd")),
        flag("listen-client-urls", &clients),
        flag("advertise-client-urls", &clients),
        flag("listen-peer-urls", &peers),
        flag("initial-advertise-peer-urls", &peers),
        flag("initial-cluster", format!("e2e={peers}")),
        // The data is thrown away with the cluster, so waiting for the disk buys nothing.
        "--unsafe-no-fsync".into(),
        flag("log-level", "warn"),
    ]
}

/// `--name=value`, for values that may be paths.
pub(crate) fn flag(name: &str, value: impl AsRef<std::ffi::OsStr>) -> OsString {
    let mut flag = OsString::from(format!("--{name}="));
    flag.push(value);
    flag
}

/// Turns an error of the client into one that says what was tried.
pub(crate) fn api(action: impl Into<String>) -> impl FnOnce(kube::Error) -> Error {
    move |source| Error::Api { action: action.into(), source: Box::new(source) }
}

/// Ports that nobody listens on now. All are held until all are known, so that none is given out twice.
fn free_ports<const N: usize>() -> Result<[u16; N], Error> {
    let ports = |error| Error::Ports { source: error };
    let listeners =
        (0..N).map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0))).collect::<Result<Vec<_>, _>>().map_err(ports)?;
    let mut chosen = [0; N];
    for (port, listener) in chosen.iter_mut().zip(&listeners) {
        *port = listener.local_addr().map_err(ports)?.port();
    }
    Ok(chosen)
}

/// Whether the apiserver calls itself ready.
pub(crate) async fn is_ready(client: &Client) -> bool {
    let Ok(request) = http::Request::get("/readyz").body(Vec::new()) else { return false };
    client.request_text(request).await.is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn free_ports_differ() {
        let [a, b, c] = free_ports().unwrap();
        assert!(a != b && b != c && a != c);
    }
}
