//! `productpage`: the front, made of what `details` and `reviews` answer.

use http::StatusCode;
use serde_json::{Value, json};

use super::answer::{Answer, Ask};
use super::page;

/// What a call to another service gave: its JSON, or why there is none.
pub(super) type Part = Result<Value, String>;

/// What the front asks of others, and for which form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wanted {
    /// The whole page.
    Page,
    /// `GET /api/v1/products`.
    Products,
    /// `GET /api/v1/products/<id>`: the product, its details and its reviews.
    Product(u32),
}

/// Tells what a request wants.
///
/// # Errors
/// The answer to give instead, for another path or a bad id.
pub(super) fn wanted(ask: &Ask<'_>) -> Result<Wanted, Answer> {
    match ask.path {
        "/" | "/productpage" => Ok(Wanted::Page),
        "/api/v1/products" => Ok(Wanted::Products),
        _ => {
            let id = ask.segment_after("/api/v1/products/").ok_or_else(Answer::not_found)?;
            match id.parse() {
                Ok(id) => Ok(Wanted::Product(id)),
                Err(_) => Err(Answer::fault(StatusCode::BAD_REQUEST, "a product id is a number")),
            }
        }
    }
}

/// Returns who is signed in: the header `end-user`, else the query parameter `u`.
pub(super) fn user<'a>(ask: &Ask<'a>) -> Option<&'a str> {
    let header = ask.headers.get("end-user").and_then(|value| value.to_str().ok());
    header.or_else(|| ask.parameter("u")).filter(|user| {
        (1..=USER_BYTES_MAX).contains(&user.len())
            && user.bytes().all(|byte| byte.is_ascii_alphanumeric())
    })
}

/// A user's name is shown in the page's corner and sent as a header: short and plain.
const USER_BYTES_MAX: usize = 32;

/// Answers with the list of products.
pub(super) fn products() -> Answer {
    Answer::json(StatusCode::OK, &json!([product(0)]))
}

/// Answers with a product and what is known of it.
///
/// The answer is 200 only when every part is there, so that a caller who counts failures sees
/// those behind the front too.
pub(super) fn product_with_parts(id: u32, details: &Part, reviews: &Part) -> Answer {
    let status = status_of(details, reviews);
    let part = |part: &Part| match part {
        Ok(value) => value.clone(),
        Err(error) => json!({ "error": error }),
    };
    let mut whole = product(id);
    whole["details"] = part(details);
    whole["reviews"] = part(reviews);
    Answer::json(status, &whole)
}

/// Answers with the page; a part that is missing says so in its place.
pub(super) fn page(user: Option<&str>, details: &Part, reviews: &Part) -> Answer {
    Answer::html(status_of(details, reviews), page::render(user, details, reviews))
}

fn status_of(details: &Part, reviews: &Part) -> StatusCode {
    if details.is_ok() && reviews.is_ok() { StatusCode::OK } else { StatusCode::BAD_GATEWAY }
}

fn product(id: u32) -> Value {
    json!({
        "id": id,
        "title": page::TITLE,
        "description": page::DESCRIPTION,
    })
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderValue, Method};

    use super::*;

    #[test]
    fn paths_lead_to_forms() {
        let headers = HeaderMap::new();
        let ask = |path| Ask { method: &Method::GET, path, query: "", headers: &headers };
        assert_eq!(wanted(&ask("/productpage")), Ok(Wanted::Page));
        assert_eq!(wanted(&ask("/api/v1/products/0")), Ok(Wanted::Product(0)));
        assert_eq!(wanted(&ask("/api/v1/products")), Ok(Wanted::Products));
        assert_eq!(wanted(&ask("/api/v1/products/x")).map_err(|a| a.status.as_u16()), Err(400));
        assert_eq!(wanted(&ask("/x")).map_err(|a| a.status.as_u16()), Err(404));
    }

    #[test]
    fn a_user_comes_from_the_header_or_the_query_and_is_plain() {
        let mut headers = HeaderMap::new();
        let asked = |headers: &HeaderMap, query: &str| {
            let ask = Ask { method: &Method::GET, path: "/", query, headers };
            user(&ask).map(str::to_owned)
        };
        assert_eq!(asked(&headers, "a=b&u=jason"), Some("jason".to_owned()));
        assert_eq!(asked(&headers, "u=<script>"), None);
        assert_eq!(asked(&headers, "u="), None);
        headers.insert("end-user", HeaderValue::from_static("mary"));
        assert_eq!(asked(&headers, "u=jason"), Some("mary".to_owned()));
    }

    #[test]
    fn a_missing_part_shows_in_the_status_and_in_its_place() {
        let details = Ok(json!({ "author": "x" }));
        let reviews = Err("reviews: HTTP 503".to_owned());
        let answer = product_with_parts(0, &details, &reviews);
        assert_eq!(answer.status, StatusCode::BAD_GATEWAY);
        assert!(answer.body.contains("reviews: HTTP 503"), "{}", answer.body);
        let page = page(None, &details, &reviews);
        assert_eq!(page.status, StatusCode::BAD_GATEWAY);
        assert!(page.body.contains("reviews: HTTP 503"), "{}", page.body);
    }
}
