//! The keys and certificates of one cluster. They live in its private run folder and go with it.

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};

use crate::cache;
use crate::error::{Error, IoContext};

/// The first address of the service range, under which pods know the apiserver.
pub(crate) const APISERVER_SERVICE_IP: &str = "10.96.0.1";

/// A user of the cluster, as its client certificate names it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Identity {
    /// The file stem, and the user in the kubeconfig.
    pub(crate) file: &'static str,
    user: &'static str,
    group: Option<&'static str>,
}

/// Whoever runs the tests.
pub(crate) const ADMIN: Identity = Identity { file: "admin", user: "trainyard-e2e", group: Some("system:masters") };
/// kwok, with a name of its own so that the audit log tells its writes from ours.
pub(crate) const KWOK: Identity = Identity { file: "kwok", user: "kwok", group: Some("system:masters") };
/// The controller manager, with the rights that Kubernetes binds to this name.
pub(crate) const CONTROLLER_MANAGER: Identity =
    Identity { file: "controller-manager", user: "system:kube-controller-manager", group: None };
/// The scheduler, likewise.
pub(crate) const SCHEDULER: Identity = Identity { file: "scheduler", user: "system:kube-scheduler", group: None };

/// The real node's kubelet, as the node authorizer knows it.
pub(crate) const KUBELET: Identity =
    Identity { file: "kubelet", user: "system:node:node-1", group: Some("system:nodes") };
/// kube-proxy, likewise.
pub(crate) const PROXY: Identity = Identity { file: "kube-proxy", user: "system:kube-proxy", group: None };
/// CoreDNS.
pub(crate) const DNS: Identity = Identity { file: "coredns", user: "coredns", group: Some("system:masters") };
/// What makes volumes for claims.
pub(crate) const VOLUMES: Identity = Identity { file: "volumes", user: "volumes", group: Some("system:masters") };
/// The apiserver, when it asks a kubelet for logs.
pub(crate) const KUBELET_CLIENT: Identity =
    Identity { file: "kubelet-client", user: "kube-apiserver", group: Some("system:masters") };

/// Everybody who connects to the apiserver.
pub(crate) const USERS: [Identity; 8] = [ADMIN, KWOK, CONTROLLER_MANAGER, SCHEDULER, KUBELET, PROXY, DNS, VOLUMES];

/// The name of a user's kubeconfig file.
pub(crate) fn kubeconfig_file(identity: Identity) -> String {
    format!("{}.kubeconfig", identity.file)
}

/// The folder with everything that was made.
#[derive(Clone, Debug)]
pub(crate) struct Pki {
    folder: PathBuf,
}

impl Pki {
    /// Makes the authority, the apiserver's certificate, a client certificate for each identity, and the key that
    /// signs service account tokens.
    ///
    /// The apiserver's is valid for `address`, beside loopback and the names by which pods know it.
    pub(crate) fn create(folder: &Path, address: Ipv4Addr) -> Result<Self, Error> {
        cache::create_private(folder)?;
        let pki = Self { folder: folder.to_owned() };
        let authority = pki.create_authority()?;
        pki.issue("apiserver", serving_certificate(address)?, &authority)?;
        for identity in USERS.into_iter().chain([KUBELET_CLIENT]) {
            pki.issue(identity.file, client_certificate(identity), &authority)?;
        }
        let key = generate("service accounts")?;
        pki.write("service-accounts.key", &key.serialize_pem())?;
        pki.write("service-accounts.pub", &key.public_key_pem())?;
        Ok(pki)
    }

    /// The authority's certificate.
    pub(crate) fn authority(&self) -> PathBuf {
        self.folder.join("ca.crt")
    }

    /// A certificate by its file stem.
    pub(crate) fn certificate(&self, file: &str) -> PathBuf {
        self.folder.join(format!("{file}.crt"))
    }

    /// The key of that certificate.
    pub(crate) fn key(&self, file: &str) -> PathBuf {
        self.folder.join(format!("{file}.key"))
    }

    /// The key that signs service account tokens.
    pub(crate) fn service_account_key(&self) -> PathBuf {
        self.key("service-accounts")
    }

    /// Its public half, which verifies them.
    pub(crate) fn service_account_public_key(&self) -> PathBuf {
        self.folder.join("service-accounts.pub")
    }

    fn create_authority(&self) -> Result<Issuer<'static, KeyPair>, Error> {
        let mut params = CertificateParams::default();
        params.distinguished_name = name("trainyard-e2e", None);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages =
            vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
        let key = generate("the authority")?;
        let certificate = params.self_signed(&key).map_err(named("the authority"))?;
        self.write("ca.crt", &certificate.pem())?;
        Ok(Issuer::new(params, key))
    }

    fn issue(
        &self,
        file: &'static str,
        params: CertificateParams,
        authority: &Issuer<'_, KeyPair>,
    ) -> Result<(), Error> {
        let key = generate(file)?;
        let certificate = params.signed_by(&key, authority).map_err(named(file))?;
        self.write(&format!("{file}.crt"), &certificate.pem())?;
        self.write(&format!("{file}.key"), &key.serialize_pem())
    }

    fn write(&self, file: &str, text: &str) -> Result<(), Error> {
        let path = self.folder.join(file);
        fs::write(&path, text).context("writing", &path)
    }
}

fn serving_certificate(address: Ipv4Addr) -> Result<CertificateParams, Error> {
    let names = [
        &address.to_string(),
        "127.0.0.1",
        APISERVER_SERVICE_IP,
        "localhost",
        "kubernetes",
        "kubernetes.default",
        "kubernetes.default.svc",
        "kubernetes.default.svc.cluster.local",
    ];
    let mut params = CertificateParams::new(names.map(str::to_owned)).map_err(named("apiserver"))?;
    params.distinguished_name = name("kube-apiserver", None);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    Ok(params)
}

fn client_certificate(identity: Identity) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = name(identity.user, identity.group);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params
}

fn name(common_name: &str, organization: Option<&str>) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common_name);
    if let Some(organization) = organization {
        name.push(DnType::OrganizationName, organization);
    }
    name
}

fn generate(name: &'static str) -> Result<KeyPair, Error> {
    KeyPair::generate().map_err(named(name))
}

fn named(name: &'static str) -> impl Fn(rcgen::Error) -> Error {
    move |source| Error::Certificate { name, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kubelet_speaks_for_its_own_node() {
        assert_eq!(KUBELET.user, format!("system:node:{}", crate::NODE_NAME));
    }
}
