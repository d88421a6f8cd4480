//! Containers of pods as far as a controller looks at them.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde::Deserialize;

use super::guard::lenient;
use crate::text::shorten;

/// Longest log tail in status, in bytes.
const LOG_TAIL: usize = 1024;

/// Longest part of a log line that a message quotes, in bytes.
const LAST_LINE: usize = 160;

/// A message, with the last line of the log: most often the exception itself.
pub fn with_last_line(message: &str, log_tail: Option<&str>) -> String {
    match log_tail.and_then(|tail| tail.lines().last()).map(str::trim) {
        Some(line) if !line.is_empty() => format!("{message}: {}", shorten(line, LAST_LINE)),
        _ => message.to_owned(),
    }
}

/// What is kept of a container.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ContainerFacts {
    /// Its name.
    pub name: String,
    /// Whether it is an init container.
    pub init: bool,
    /// What it is doing.
    pub state: ContainerState,
    /// How it ended before it was started again, if it was.
    pub last_end: Option<Box<Ended>>,
}

/// What a container is doing.
#[derive(Clone, Debug, PartialEq)]
pub enum ContainerState {
    /// Not started, with the kubelet's reason and message.
    Waiting(String, String),
    /// Running.
    Running,
    /// Ended.
    Ended(Ended),
}

impl ContainerFacts {
    /// Whether it ended with another exit code than 0.
    pub fn failed(&self) -> bool {
        matches!(&self.state, ContainerState::Ended(ended) if ended.exit_code != 0)
    }
}

impl Default for ContainerState {
    /// As it is before the kubelet has said anything.
    fn default() -> Self {
        ContainerState::Waiting(String::new(), String::new())
    }
}

/// How a container ended.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Ended {
    /// Exit code; 128 and the signal's number when killed by one.
    pub exit_code: i32,
    /// The kubelet's word, for instance OOMKilled.
    pub reason: Option<String>,
    /// Termination message or the end of the log.
    pub message: Option<String>,
    /// When.
    #[serde(deserialize_with = "lenient::time_or_none")]
    pub finished_at: Option<Time>,
}

impl Ended {
    /// The signal that ended it, in words to append to the exit code.
    pub fn signal(&self) -> &'static str {
        match self.exit_code {
            134 => " (SIGABRT)",
            137 => " (SIGKILL)",
            139 => " (SIGSEGV)",
            143 => " (SIGTERM)",
            _ => "",
        }
    }

    /// The last bytes of its message, from the beginning of a line if one begins there.
    pub fn log_tail(&self) -> Option<String> {
        let message = self.message.as_deref()?.trim_end();
        let skip = message.len() - shorten(message, LOG_TAIL).len();
        let start = message.ceil_char_boundary(skip);
        let tail = &message[start..];
        let whole_lines = if start == 0 { tail } else { tail.split_once('\n').map_or(tail, |(_, rest)| rest) };
        (!whole_lines.is_empty()).then(|| whole_lines.to_owned())
    }
}

/// A container's status as it comes from a watch.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct WatchedContainer {
    name: String,
    #[serde(default)]
    state: WatchedState,
    #[serde(default)]
    last_state: WatchedState,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct WatchedState {
    waiting: Option<WatchedWaiting>,
    running: Option<serde::de::IgnoredAny>,
    terminated: Option<Ended>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct WatchedWaiting {
    reason: String,
    message: String,
}

impl WatchedContainer {
    /// What is kept of it.
    pub(super) fn facts(self, init: bool) -> ContainerFacts {
        let state = match self.state {
            WatchedState { terminated: Some(ended), .. } => ContainerState::Ended(ended),
            WatchedState { running: Some(_), .. } => ContainerState::Running,
            WatchedState { waiting, .. } => {
                let waiting = waiting.unwrap_or_default();
                let (reason, message) = steady(waiting.reason, waiting.message);
                ContainerState::Waiting(reason, message)
            }
        };
        ContainerFacts { name: self.name, init, state, last_end: self.last_state.terminated.map(Box::new) }
    }
}

/// One wording for an image that cannot be pulled. While it tries again and again the kubelet writes ErrImagePull (or a more
/// special reason) with the error, and in between ImagePullBackOff with `Back-off pulling image "..."` before the same reason
/// and error (kubernetes/pkg/kubelet/images/image_manager.go): a status would change with each try.
fn steady(reason: String, message: String) -> (String, String) {
    const PULL: &str = "ErrImagePull";
    const BACK_OFF: &str = "ImagePullBackOff";
    let waits = message.strip_prefix("Back-off pulling image \"").filter(|_| reason == BACK_OFF);
    let (reason, message) =
        match waits.and_then(|rest| rest.split_once("\": ")).and_then(|(_, last)| last.split_once(": ")) {
            Some((reason, error)) if !reason.contains(' ') => (reason.to_owned(), error.to_owned()),
            _ => (reason, message),
        };
    (if reason == PULL { BACK_OFF.to_owned() } else { reason }, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_that_cannot_be_pulled_has_one_wording() {
        let error = "failed to pull and unpack image \"docker.io/example/none:1\": not found";
        let back_off = format!("Back-off pulling image \"example/none:1\": ErrImagePull: {error}");
        for (reason, message) in [("ErrImagePull", error), ("ImagePullBackOff", &back_off)] {
            let wording = steady(reason.into(), message.into());
            assert_eq!(wording, ("ImagePullBackOff".to_owned(), error.to_owned()), "{reason}");
        }
        let closed = "image pull failed for example/none:1 because the registry is unavailable";
        let back_off = format!("Back-off pulling image \"example/none:1\": RegistryUnavailable: {closed}");
        for (reason, message) in [("RegistryUnavailable", closed), ("ImagePullBackOff", &back_off)] {
            let wording = steady(reason.into(), message.into());
            assert_eq!(wording, ("RegistryUnavailable".to_owned(), closed.to_owned()), "{reason}");
        }
        for (reason, message) in [
            ("ImagePullBackOff", "Back-off pulling image \"example/none:1\""),
            ("ImagePullBackOff", ""),
            ("CreateContainerConfigError", "configmap \"settings\" not found"),
        ] {
            assert_eq!(steady(reason.into(), message.into()), (reason.to_owned(), message.to_owned()));
        }
    }

    fn tail(message: &str) -> Option<String> {
        Ended { message: Some(message.to_owned()), ..Ended::default() }.log_tail()
    }

    #[test]
    fn a_message_quotes_the_last_line_if_there_is_one() {
        for (tail, expected) in
            [(None, "it failed"), (Some(" \n"), "it failed"), (Some("first\n  last "), "it failed: last")]
        {
            assert_eq!(with_last_line("it failed", tail), expected);
        }
        assert_eq!(with_last_line("m", Some(&"x".repeat(500))).len(), "m: ".len() + LAST_LINE);
    }

    #[test]
    fn a_log_tail_is_short_and_begins_with_a_line() {
        assert_eq!(tail("  \n"), None);
        assert_eq!(tail("one line\n").as_deref(), Some("one line"));
        let long = format!("{}\nlast line", "x".repeat(2_000));
        assert_eq!(tail(&long).as_deref(), Some("last line"));
        let unbroken = "é".repeat(2_000);
        assert!(tail(&unbroken).unwrap().len() <= LOG_TAIL + 1);
    }
}
