//! `weft bookinfo`: the apps of the demo, each a small HTTP server that knows nothing of the mesh.
//!
//! What an app answers is decided in its own file as a pure function; here are its flags, its
//! listener, and the calls to its neighbours through its sidecar.

mod answer;
mod details;
mod page;
mod productpage;
mod ratings;
mod reviews;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use http::request::Parts;
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use serde::de::DeserializeOwned;
use weft_runtime::http::{Body, ServeOptions, full, serve};
use weft_runtime::task::TaskTree;
use weft_runtime::{net, signal};

use self::answer::{Answer, Ask, passed_on};
use self::productpage::{Part, Wanted};
use self::reviews::{Ratings, Version};
use super::demo::web::Web;

/// Flags of `weft bookinfo`.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct BookinfoArgs {
    #[command(subcommand)]
    app: AppArgs,
}

#[derive(Debug, Clone, clap::Subcommand)]
enum AppArgs {
    /// Facts of the book
    Details {
        #[command(flatten)]
        place: Place,
    },
    /// The front
    Productpage {
        #[command(flatten)]
        place: Place,
        /// Where the sidecar listens for details
        #[arg(long, value_name = "ADDR")]
        details: SocketAddr,
        /// Where the sidecar listens for reviews
        #[arg(long, value_name = "ADDR")]
        reviews: SocketAddr,
    },
    /// Stars
    Ratings {
        #[command(flatten)]
        place: Place,
    },
    /// What people say
    Reviews {
        #[command(flatten)]
        place: Place,
        /// Which version to be
        #[arg(long)]
        version: Version,
        /// Where the sidecar listens for ratings; v1 does not call it
        #[arg(long, value_name = "ADDR")]
        ratings: Option<SocketAddr>,
    },
}

#[derive(Debug, Clone, clap::Args)]
struct Place {
    /// Where to listen
    #[arg(long, value_name = "ADDR")]
    listen: SocketAddr,
    /// The name to answer with
    #[arg(long, value_name = "ID")]
    instance: String,
}

/// Serves an app until it is told to stop.
///
/// # Errors
/// When it cannot listen.
pub(crate) async fn run(args: BookinfoArgs, tasks: TaskTree) -> anyhow::Result<ExitCode> {
    let listen = args.app.place().listen;
    let listener = net::bind_tcp(listen).await.with_context(|| format!("listening on {listen}"))?;
    let app = Arc::new(App { args: args.app, web: Web::new() });
    let service = tower::service_fn(move |request: Request<Body>| {
        let app = Arc::clone(&app);
        async move { Ok::<_, Infallible>(app.respond(&request.into_parts().0).await) }
    });
    tokio::select! {
        () = serve(listener, None, service, ServeOptions::default(), &tasks) => {}
        told = signal::shutdown() => {
            told.context("waiting for signals")?;
            tasks.cancel();
        }
    }
    Ok(ExitCode::SUCCESS)
}

impl AppArgs {
    fn place(&self) -> &Place {
        match self {
            Self::Details { place }
            | Self::Productpage { place, .. }
            | Self::Ratings { place }
            | Self::Reviews { place, .. } => place,
        }
    }
}

struct App {
    args: AppArgs,
    web: Web,
}

impl App {
    async fn respond(&self, request: &Parts) -> Response<Body> {
        let ask = Ask {
            method: &request.method,
            path: request.uri.path(),
            query: request.uri.query().unwrap_or_default(),
            headers: &request.headers,
        };
        let answer = self.answer(&ask).await;
        let mut response = Response::new(full(answer.body));
        *response.status_mut() = answer.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(answer.content_type));
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        response
    }

    async fn answer(&self, ask: &Ask<'_>) -> Answer {
        if ask.method != Method::GET && ask.method != Method::HEAD {
            return Answer::fault(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD are answered");
        }
        let instance = &self.args.place().instance;
        if ask.path == "/health" {
            return Answer::json(StatusCode::OK, &serde_json::json!({ "instance": instance }));
        }
        match &self.args {
            AppArgs::Details { .. } => details::answer(ask, instance),
            AppArgs::Productpage { details, reviews, .. } => {
                self.front(ask, *details, *reviews).await
            }
            AppArgs::Ratings { .. } => ratings::answer(ask, instance),
            AppArgs::Reviews { version, ratings, .. } => {
                let id = match reviews::product(ask) {
                    Ok(id) => id,
                    Err(refusal) => return refusal,
                };
                let known = match (version.star_colour(), ratings) {
                    (Some(_), Some(ratings)) => Some(self.ratings(ask, *ratings, id).await),
                    (None, _) | (_, None) => None,
                };
                reviews::answer(id, *version, known, instance)
            }
        }
    }

    async fn front(&self, ask: &Ask<'_>, details: SocketAddr, reviews: SocketAddr) -> Answer {
        let wanted = match productpage::wanted(ask) {
            Ok(wanted) => wanted,
            Err(refusal) => return refusal,
        };
        let id = match wanted {
            Wanted::Page => 0,
            Wanted::Product(id) => id,
            Wanted::Products => return productpage::products(),
        };
        let user = productpage::user(ask);
        let mut headers = passed_on(ask.headers);
        // Who signed in by the query is not in the headers yet.
        if let Some(user) = user.and_then(|user| HeaderValue::from_str(user).ok()) {
            headers.retain(|(name, _)| name != END_USER);
            headers.push((HeaderName::from_static(END_USER), user));
        }
        let (details, reviews): (Part, Part) = tokio::join!(
            self.call(format!("http://{details}/details/{id}"), headers.clone()),
            self.call(format!("http://{reviews}/reviews/{id}"), headers),
        );
        match wanted {
            Wanted::Page => productpage::page(user, &details, &reviews),
            Wanted::Product(_) | Wanted::Products => {
                productpage::product_with_parts(id, &details, &reviews)
            }
        }
    }

    async fn ratings(
        &self,
        ask: &Ask<'_>,
        ratings: SocketAddr,
        id: u32,
    ) -> Result<Ratings, String> {
        self.call(format!("http://{ratings}/ratings/{id}"), passed_on(ask.headers)).await
    }

    /// Calls a neighbour through the sidecar. In the error is what a reader of the page should
    /// know: the status, and the sidecar's words if it refused.
    async fn call<T: DeserializeOwned>(
        &self,
        url: String,
        headers: Vec<(HeaderName, HeaderValue)>,
    ) -> Result<T, String> {
        let reply = self.web.get_on_behalf(&url, headers).await;
        let reply = reply.map_err(|error| format!("{error:#}"))?;
        if reply.status != 200 {
            return Err(format!("HTTP {}: {}", reply.status, reply.first_line()));
        }
        serde_json::from_str(&reply.body).map_err(|error| format!("{url}: not JSON: {error}"))
    }
}

/// The header by which the demo's traffic is routed.
const END_USER: &str = "end-user";

#[cfg(test)]
mod tests {
    use http::HeaderMap;

    use super::*;

    fn app(args: AppArgs) -> App {
        App { args, web: Web::new() }
    }

    fn place() -> Place {
        let listen = "127.0.0.1:0".parse().expect("an address");
        Place { listen, instance: "x-1".to_owned() }
    }

    async fn status(app: &App, method: Method, path: &str) -> u16 {
        let ask = Ask { method: &method, path, query: "", headers: &HeaderMap::new() };
        app.answer(&ask).await.status.as_u16()
    }

    #[tokio::test]
    async fn every_app_says_that_it_is_healthy_and_only_reads() {
        for args in [AppArgs::Details { place: place() }, AppArgs::Ratings { place: place() }] {
            let app = app(args);
            assert_eq!(status(&app, Method::GET, "/health").await, 200);
            assert_eq!(status(&app, Method::POST, "/health").await, 405);
            assert_eq!(status(&app, Method::GET, "/nothing").await, 404);
        }
    }

    #[tokio::test]
    async fn reviews_v1_answers_without_ratings_and_v2_survives_their_absence() {
        // Port 9 of loopback has no listener: the call fails at once.
        let nobody: Option<SocketAddr> = Some("127.0.0.1:9".parse().expect("an address"));
        for version in [Version::V1, Version::V2] {
            let args = AppArgs::Reviews { place: place(), version, ratings: nobody };
            assert_eq!(status(&app(args), Method::GET, "/reviews/0").await, 200);
        }
    }

    #[tokio::test]
    async fn the_front_says_when_a_neighbour_is_missing() {
        let nobody: SocketAddr = "127.0.0.1:9".parse().expect("an address");
        let args = AppArgs::Productpage { place: place(), details: nobody, reviews: nobody };
        let app = app(args);
        assert_eq!(status(&app, Method::GET, "/api/v1/products/0").await, 502);
        assert_eq!(status(&app, Method::GET, "/api/v1/products").await, 200);
    }
}
