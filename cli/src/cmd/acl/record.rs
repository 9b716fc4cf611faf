//! What every command on a kind of record does with the API: read, write, list, show.

use clap::Args;
use http::Method;
use serde_json::{Map, Value};

use crate::client::{ApiClient, encode};
use crate::output::{OutputArgs, Table, print, print_json};

/// A record as it is read, changed and written back.
pub(super) type Record = Map<String, Value>;

/// How a record is shown to people.
pub(super) type Show = fn(&Value) -> String;

/// Names one record by its id or its name.
#[derive(Debug, Args)]
pub(super) struct Which {
    /// Its id
    #[arg(long, value_name = "UUID", required_unless_present = "name")]
    id: Option<String>,
    /// Its name
    #[arg(long, conflicts_with = "id")]
    name: Option<String>,
}

/// Puts into a record what was given for some of its plain fields.
pub(super) fn put_given<const N: usize>(record: &mut Record, fields: [(&str, &Option<String>); N]) {
    for (field, value) in fields {
        if let Some(value) = value {
            record.insert(field.to_owned(), value.as_str().into());
        }
    }
}

impl Which {
    /// Reads the record that is named; `kind` is the API's word for what it is.
    pub(super) async fn find(&self, client: &ApiClient, kind: &str) -> anyhow::Result<Record> {
        let path = match (&self.id, &self.name) {
            (Some(id), _) => format!("/v1/acl/{kind}/{}", encode(id)),
            (None, name) => {
                format!("/v1/acl/{kind}/name/{}", encode(name.as_deref().unwrap_or_default()))
            }
        };
        fetch(client, &path).await
    }
}

/// Reads a record in order to change it.
pub(super) async fn fetch(client: &ApiClient, path: &str) -> anyhow::Result<Record> {
    client.get(path).await?.ok()?.json()
}

/// Returns a text of such a record, empty when there is none.
pub(super) fn text_of(record: &Record, field: &str) -> String {
    record.get(field).and_then(Value::as_str).unwrap_or_default().to_owned()
}

/// Reads a record and shows it.
pub(super) async fn read(
    client: &ApiClient,
    path: &str,
    output: OutputArgs,
    show: Show,
) -> anyhow::Result<()> {
    present(&client.get(path).await?.ok()?.json()?, output, show)
}

/// Writes a record and shows what came of it.
pub(super) async fn write(
    client: &ApiClient,
    path: &str,
    body: impl Into<Value>,
    output: OutputArgs,
    show: Show,
) -> anyhow::Result<()> {
    let answer = client.call(Method::PUT, path, body.into().to_string()).await?;
    present(&answer.ok()?.json()?, output, show)
}

/// Shows a record, or prints its JSON.
pub(super) fn present(record: &Value, output: OutputArgs, show: Show) -> anyhow::Result<()> {
    if output.json { print_json(record) } else { print(show(record)) }
}

/// Removes a record.
pub(super) async fn delete(client: &ApiClient, path: &str) -> anyhow::Result<()> {
    client.call(Method::DELETE, path, "").await?.ok().map(drop)
}

/// Lists records, a row each.
pub(super) async fn list(
    client: &ApiClient,
    path: &str,
    output: OutputArgs,
    header: &[&str],
    row: impl Fn(&Value) -> Vec<String>,
) -> anyhow::Result<()> {
    let records: Vec<Value> = client.get(path).await?.ok()?.json()?;
    if output.json {
        return print_json(&records);
    }
    let mut table = Table::new(header);
    for record in &records {
        table.row(row(record));
    }
    print(table.text())
}
