//! `/v1/acl/bootstrap`: the first management token.
//!
//! **Source**: Consul: api-docs/acl#bootstrap-acls, docs/security/acl/troubleshoot#reset.

use ::http::Response;
use serde::Deserialize;
use tracing::{info, warn};
use weft_core::acl::AccessorId;
use weft_core::index::Index;
use weft_core::state::{AclCommand, Command};
use weft_proto::json::{Unknown, from_slice};
use weft_runtime::entropy;
use weft_runtime::http::Body;

use super::token::new_secret;
use super::{enabled, missing, show};
use crate::http::error::ApiError;
use crate::http::request::ApiRequest;
use crate::http::routes::Routes;
use crate::http::{Context, page};

pub(super) fn routes(table: Routes) -> Routes {
    table.put("/v1/acl/bootstrap", |context, request| Box::pin(bootstrap(context, request)))
}

/// The body; it may be left out.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Bootstrap {
    /// The secret that the token is to have, a UUID; one is made when it is empty.
    bootstrap_secret: String,
}

/// `PUT /v1/acl/bootstrap`: once, for whoever comes first; again for who can write the number of
/// the first time into this server's data directory.
async fn bootstrap(context: &Context, request: &ApiRequest) -> Result<Response<Body>, ApiError> {
    enabled(context)?;
    let body: Bootstrap = from_slice(&request.body, Unknown::Ignore)?;
    let secret = new_secret(&body.bootstrap_secret)?;
    let accessor = AccessorId::parse(&entropy::uuid())
        .map_err(|error| ApiError::bad_request(error.to_string()))?;
    let reset = context.reset.read().await;
    let command =
        AclCommand::Bootstrap { accessor: accessor.clone(), secret: secret.hash(), reset };
    context.proposer.write(&request.caller, Command::Acl(command)).await?;
    info!(%accessor, "the first management token was made");
    if reset.is_some() {
        context.reset.remove().await;
    }
    let state = context.reader.newest();
    let token = state.acl().token(&accessor).ok_or_else(|| missing("token"))?;
    let mut shown = show::token(state.acl(), &token, Some(&secret));
    shown.id = Some(secret.shown().to_owned());
    Ok(page::json_response(page::json(&shown)?))
}

/// The file by which an operator with access to a server's disk asks for another bootstrap.
#[derive(Debug)]
pub(in crate::http) struct ResetFile {
    path: std::path::PathBuf,
    tasks: weft_runtime::task::TaskTree,
}

impl ResetFile {
    pub(in crate::http) fn new(
        data_dir: &std::path::Path,
        tasks: &weft_runtime::task::TaskTree,
    ) -> Self {
        Self { path: data_dir.join("acl-bootstrap-reset"), tasks: tasks.clone() }
    }

    /// Returns the number in the file; a file that holds none is told of and counts for nothing.
    async fn read(&self) -> Option<Index> {
        let path = self.path.clone();
        let text = self.tasks.blocking(move || std::fs::read_to_string(path).ok()).await.ok()??;
        let number = text.trim().parse().map(Index);
        number
            .inspect_err(|_| warn!(path = ?self.path, "the reset file does not hold a number"))
            .ok()
    }

    async fn remove(&self) {
        let path = self.path.clone();
        match self.tasks.blocking(move || std::fs::remove_file(path)).await {
            Ok(Ok(())) => {}
            // It names a number that is worth nothing any more.
            Ok(Err(error)) => warn!(%error, path = ?self.path, "the reset file is left"),
            Err(failure) => warn!(%failure, path = ?self.path, "the reset file is left"),
        }
    }
}
