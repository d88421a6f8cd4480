//! The log: what goes into it, and in which form.

use tracing::Dispatch;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;
use tracing_subscriber::fmt::MakeWriter;

use crate::cli::LogFormat;

/// Targets that are silent unless they are asked for by their own name, as in `--log kube_client=warn`.
///
/// `kube_client` prints every answer that it cannot parse, with all that users wrote into their objects: the variables of
/// pods for instance. kube's watcher warns at every try of what we log ourselves, once.
const QUIET: &str = "kube_client=off,kube_runtime::watcher=error";

/// Which events are logged for the value of `--log`.
///
/// # Errors
/// `wanted` is not a filter.
pub fn filter(wanted: &str) -> Result<EnvFilter, ParseError> {
    // Of two directives for one target the later one counts, and of several targets the longest that fits.
    EnvFilter::try_new(format!("{QUIET},{wanted}"))
}

/// What writes the log; with colours if `is_terminal`.
pub fn dispatch<W>(filter: EnvFilter, form: LogFormat, is_terminal: bool, writer: W) -> Dispatch
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer).with_ansi(is_terminal);
    match form {
        LogFormat::Text => Dispatch::new(log.finish()),
        LogFormat::Json => Dispatch::new(log.json().flatten_event(true).finish()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{self, Write};
    use std::sync::{Arc, Mutex};

    /// What was logged.
    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn answers_that_cannot_be_parsed_are_logged_only_when_asked_for_by_name() {
        for (wanted, logged) in [
            ("info", false),
            ("trace", false),
            ("kube=trace,trainyard=debug", false),
            ("kube_client=warn", true),
            ("info,kube_client::client=debug", true),
        ] {
            for form in [LogFormat::Text, LogFormat::Json] {
                let written = Written::default();
                let writer = written.clone();
                let log = dispatch(filter(wanted).unwrap(), form, false, move || writer.clone());
                tracing::dispatcher::with_default(&log, || {
                    let answer = r#"{"items": [{"spec": {"env": [{"value": "canary"}]}}]}"#;
                    tracing::warn!(target: "kube_client::client", "{answer}, expected a list");
                    tracing::error!(target: "kube_client::client::builder", "canary");
                    tracing::error!(target: "trainyard::cluster", "ours");
                });
                let text = String::from_utf8(written.0.lock().unwrap().clone()).unwrap();
                assert_eq!(text.contains("canary"), logged, "{wanted}, {form:?}: {text}");
                assert_eq!(text.contains("ours"), wanted != "kube_client=warn", "{wanted}, {form:?}: {text}");
            }
        }
        assert!(filter("=?").is_err());
    }
}
