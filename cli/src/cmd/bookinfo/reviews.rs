//! `reviews`: what people say. v1 shows no stars, v2 black ones, v3 red ones.

use std::collections::BTreeMap;

use clap::ValueEnum;
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use super::answer::{Answer, Ask};

/// A version of `reviews`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Version {
    /// No stars; `ratings` is not called.
    V1,
    /// Black stars.
    V2,
    /// Red stars.
    V3,
}

impl Version {
    /// Returns the word that stands for the version in metadata and answers.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::V1 => "v1",
            Self::V2 => "v2",
            Self::V3 => "v3",
        }
    }

    /// Returns the colour of the stars, `None` when there are none.
    pub(super) fn star_colour(self) -> Option<&'static str> {
        match self {
            Self::V1 => None,
            Self::V2 => Some("black"),
            Self::V3 => Some("red"),
        }
    }
}

/// What `ratings` answers, as far as it is used.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub(super) struct Ratings {
    ratings: BTreeMap<String, u8>,
}

/// The reviews of every book: who wrote, and what.
const TEXTS: [(&str, &str); 2] = [
    ("Reviewer1", "Two pairs of twins, one town, no patience left. I laughed until the last page."),
    ("Reviewer2", "The shortest of his plays, and it wastes none of it. Read it aloud."),
];

/// Tells which product `GET /reviews/<id>` asks for.
///
/// # Errors
/// The answer to give instead, for another path or a bad id.
pub(super) fn product(ask: &Ask<'_>) -> Result<u32, Answer> {
    let id = ask.segment_after("/reviews/").ok_or_else(Answer::not_found)?;
    id.parse().map_err(|_| Answer::fault(StatusCode::BAD_REQUEST, "a product id is a number"))
}

/// Answers for a product. `ratings` is what the call to `ratings` gave, if the version makes one;
/// reviews are shown without stars when it failed.
pub(super) fn answer(
    id: u32,
    version: Version,
    ratings: Option<Result<Ratings, String>>,
    instance: &str,
) -> Answer {
    let rating = |reviewer: &str| -> Option<Value> {
        let colour = version.star_colour()?;
        Some(match ratings.as_ref()? {
            Ok(known) => json!({ "stars": known.ratings.get(reviewer), "color": colour }),
            Err(why) => json!({ "error": why }),
        })
    };
    let reviews: Vec<Value> = TEXTS
        .iter()
        .map(|(reviewer, text)| match rating(reviewer) {
            None => json!({ "reviewer": reviewer, "text": text }),
            Some(rating) => json!({ "reviewer": reviewer, "text": text, "rating": rating }),
        })
        .collect();
    Answer::json(
        StatusCode::OK,
        &json!({
            "id": id.to_string(),
            "version": version.as_str(),
            "instance": instance,
            "reviews": reviews,
        }),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(version: Version, ratings: Option<Result<Ratings, String>>) -> Value {
        let answer = answer(0, version, ratings, "i");
        serde_json::from_str(&answer.body).expect("JSON")
    }

    fn known() -> Option<Result<Ratings, String>> {
        Some(Ok(Ratings { ratings: BTreeMap::from([("Reviewer1".to_owned(), 5)]) }))
    }

    #[test]
    fn stars_have_the_colour_of_the_version() {
        assert_eq!(body(Version::V1, None)["reviews"][0].get("rating"), None);
        assert_eq!(body(Version::V2, known())["reviews"][0]["rating"]["color"], "black");
        assert_eq!(body(Version::V3, known())["reviews"][0]["rating"]["color"], "red");
        assert_eq!(body(Version::V3, known())["reviews"][0]["rating"]["stars"], 5);
    }

    #[test]
    fn reviews_are_shown_when_ratings_fail() {
        let body = body(Version::V2, Some(Err("HTTP 403".to_owned())));
        assert_eq!(body["reviews"][1]["reviewer"], "Reviewer2");
        assert_eq!(body["reviews"][1]["rating"]["error"], "HTTP 403");
    }
}
