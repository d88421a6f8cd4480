//! The addresses of a real node and its pods, and the one link that joins them to this machine.

use std::io::{self, Write};
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use ipnet::Ipv4Net;
use serde_json::Value;

use crate::error::{Error, IoContext};
use crate::run_folder::Kind;

/// Where a free network is looked for: `10.N.0.0/16`. Far from what home networks, VPNs and cloud providers use first.
const CANDIDATES: [u8; 6] = [203, 207, 211, 219, 223, 229];

/// A network of this machine's own: it exists only between the node's namespace and ours, and goes with the node.
///
/// Pods get an address each and a route each (CNI's `ptp`), so there is no bridge, and every packet to a ClusterIP
/// passes the node's routing, where kube-proxy's rules are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Network {
    octet: u8,
    link: &'static str,
}

impl Network {
    /// Takes the first candidate that no route of this machine leads to, once what a dead run left behind is gone.
    pub(crate) fn choose(kind: Kind) -> Result<Self, Error> {
        let link = match kind {
            Kind::Kept => "ty-kept",
            Kind::InProcess => "ty-run",
        };
        // Usually it has gone with its other end.
        let _ = ip(&["link", "delete", link]);
        let routes = routed()?;
        let octet = first_free(&routes).ok_or(Error::NoFreeNetwork)?;
        Ok(Self { octet, link })
    }

    fn whole(self) -> Ipv4Net {
        whole(self.octet)
    }

    /// Our end of the link, on which the apiserver listens.
    pub(crate) fn host(self) -> Ipv4Addr {
        Ipv4Addr::new(10, self.octet, 0, 1)
    }

    /// The node's end: its InternalIP, and the address of the cluster's DNS.
    pub(crate) fn node(self) -> Ipv4Addr {
        Ipv4Addr::new(10, self.octet, 0, 2)
    }

    /// The pods' addresses.
    pub(crate) fn pods(self) -> String {
        format!("10.{}.64.0/18", self.octet)
    }

    /// Makes the link. `inside` is a process in the node's namespaces, by its process id here.
    pub(crate) fn connect(self, inside: u32) -> Result<(), Error> {
        let (link, host, node) = (self.link, self.host(), self.node());
        batch(
            &["ip", "-batch", "-"],
            &[
                format!("link add {link} type veth peer name eth0 netns {inside}"),
                format!("address add {host}/30 dev {link}"),
                format!("link set {link} up"),
                format!("route add {} via {node}", self.whole()),
            ],
        )?;
        batch(
            &["nsenter", &format!("--target={inside}"), "--net", "ip", "-batch", "-"],
            &[
                "link set lo up".to_owned(),
                format!("address add {node}/30 dev eth0"),
                "link set eth0 up".to_owned(),
                format!("route add default via {host}"),
            ],
        )
    }

    /// Removes the link, and with it our routes.
    pub(crate) fn disconnect(self) {
        let _ = ip(&["link", "delete", self.link]);
    }
}

fn whole(octet: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(10, octet, 0, 0), 16)
}

fn first_free(routes: &[Ipv4Net]) -> Option<u8> {
    let taken = |octet: u8| {
        let network = whole(octet);
        routes.iter().any(|route| route.contains(&network) || network.contains(route))
    };
    CANDIDATES.into_iter().find(|octet| !taken(*octet))
}

/// The networks that this machine has routes to, without the default route.
fn routed() -> Result<Vec<Ipv4Net>, Error> {
    let output = ip(&["-json", "-4", "route", "show", "table", "all"]).context("running", Path::new("ip route"))?;
    match serde_json::from_slice(&output.stdout) {
        Ok(routes) => Ok(destinations(&routes)),
        Err(error) => Err(Error::Link { words: format!("`ip -json route` cannot be read: {error}") }),
    }
}

fn destinations(routes: &Value) -> Vec<Ipv4Net> {
    let words = routes.as_array().into_iter().flatten().filter_map(|route| route["dst"].as_str());
    // A single host is written without a prefix.
    let parsed =
        words.filter_map(|word| word.parse().ok().or_else(|| Some(Ipv4Net::from(word.parse::<Ipv4Addr>().ok()?))));
    parsed.filter(|network| network.prefix_len() > 0).collect()
}

fn ip(arguments: &[&str]) -> io::Result<Output> {
    Command::new("ip").args(arguments).stdin(Stdio::null()).output()
}

/// Runs `ip` once for many lines.
fn batch(command: &[&str], lines: &[String]) -> Result<(), Error> {
    let run = || -> io::Result<Output> {
        let mut child = Command::new(command[0])
            .args(&command[1..])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        if let Some(mut input) = child.stdin.take() {
            input.write_all((lines.join("\n") + "\n").as_bytes())?;
        }
        child.wait_with_output()
    };
    let output = run().context("running", Path::new(command[0]))?;
    if output.status.success() {
        return Ok(());
    }
    Err(Error::Link { words: String::from_utf8_lossy(&output.stderr).trim().to_owned() })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_network_that_is_routed_elsewhere_is_passed_over() {
        let routes = |list: &[&str]| destinations(&list.iter().map(|dst| json!({"dst": dst})).collect());
        assert_eq!(first_free(&routes(&["default", "192.168.1.0/24"])), Some(203));
        assert_eq!(first_free(&routes(&["10.203.4.0/24", "10.207.0.1"])), Some(211));
        assert_eq!(first_free(&routes(&["10.0.0.0/8"])), None);
    }
}
