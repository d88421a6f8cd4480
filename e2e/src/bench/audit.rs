//! The apiserver's audit log, as far as it is counted.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use jiff::Timestamp;
use serde::Deserialize;
use tokio::time::sleep;

/// A line is written just after its request was answered, so whoever has the answer waits this long for the line.
const LAG: Duration = Duration::from_secs(1);

/// One request that was answered.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Entry {
    pub(super) verb: String,
    pub(super) user: User,
    #[serde(default, rename = "objectRef")]
    pub(super) object: ObjectRef,
    #[serde(default)]
    pub(super) response_status: ResponseStatus,
    #[serde(rename = "requestReceivedTimestamp")]
    pub(super) received: Timestamp,
    #[serde(rename = "stageTimestamp")]
    pub(super) answered: Timestamp,
}

/// Who asked.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct User {
    pub(super) username: String,
}

/// For what. Requests outside the API, such as /readyz, have none.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct ObjectRef {
    pub(super) resource: String,
    pub(super) subresource: String,
    pub(super) namespace: String,
    pub(super) name: String,
}

/// What came of it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct ResponseStatus {
    pub(super) code: u16,
}

impl Entry {
    /// Whether it changes something, if it succeeds.
    pub(super) fn is_write(&self) -> bool {
        matches!(self.verb.as_str(), "create" | "update" | "patch" | "delete" | "deletecollection")
    }

    /// Whether it did what it was meant to.
    pub(super) fn succeeded(&self) -> bool {
        (200..300).contains(&self.response_status.code)
    }

    /// Verb and kind of object, for instance `patch trainingjobs/status`.
    pub(super) fn what(&self) -> String {
        let ObjectRef { resource, subresource, .. } = &self.object;
        let slash = if subresource.is_empty() { "" } else { "/" };
        format!("{} {resource}{slash}{subresource}", self.verb)
    }
}

/// Reads lines of the log. An incomplete last line is still being written, and left out.
pub(super) fn parse(text: &str) -> Result<Vec<Entry>> {
    let complete = text.rfind('\n').map_or("", |end| &text[..end]);
    complete.lines().map(|line| serde_json::from_str(line).with_context(|| format!("an audit line: {line}"))).collect()
}

/// The log's file, of which parts can be read.
#[derive(Clone, Debug)]
pub(super) struct AuditLog {
    path: PathBuf,
}

impl AuditLog {
    pub(super) fn at(path: &Path) -> Self {
        Self { path: path.to_owned() }
    }

    /// Where the log ends now: what follows has not been asked yet.
    pub(super) async fn mark(&self) -> Result<u64> {
        sleep(LAG).await;
        Ok(fs::metadata(&self.path).with_context(|| format!("looking at {}", self.path.display()))?.len())
    }

    /// Everything since a mark, in the order in which it was answered.
    pub(super) async fn since(&self, mark: u64) -> Result<Vec<Entry>> {
        sleep(LAG).await;
        let text = read_from(&self.path, mark).with_context(|| format!("reading {}", self.path.display()))?;
        parse(&text)
    }
}

fn read_from(path: &Path, offset: u64) -> std::io::Result<String> {
    let (mut file, mut text) = (File::open(path)?, String::new());
    file.seek(SeekFrom::Start(offset))?;
    file.read_to_string(&mut text)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_and_an_incomplete_one_is_left() {
        let text = concat!(
            r#"{"kind":"Event","level":"Metadata","stage":"ResponseComplete","verb":"create","user":{"username":"u"},"#,
            r#""objectRef":{"resource":"pods","namespace":"n","name":"p","apiVersion":"v1","subresource":"binding"},"#,
            r#""responseStatus":{"metadata":{},"code":201},"requestReceivedTimestamp":"2026-01-02T03:04:05.000006Z","#,
            r#""stageTimestamp":"2026-01-02T03:04:05.010006Z"}"#,
            "\n",
            r#"{"verb":"get","user":{"username":"u"},"requestURI":"/readyz","#,
            r#""requestReceivedTimestamp":"2026-01-02T03:04:05Z","stageTimestamp":"2026-01-02T03:04:05Z"}"#,
            "\n",
            r#"{"verb":"upd"#,
        );
        let entries = parse(text).unwrap();
        let [created, looked] = entries.as_slice() else { panic!("{entries:?}") };
        assert!(created.is_write() && created.succeeded());
        assert_eq!(created.what(), "create pods/binding");
        assert_eq!(created.answered.duration_since(created.received).as_millis(), 10);
        assert!(!looked.is_write() && looked.object.resource.is_empty());
        assert!(parse("").unwrap().is_empty());
        assert!(parse("no JSON\n").is_err());
    }
}
