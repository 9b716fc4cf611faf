//! The product page as HTML: one self-contained document, every value escaped.

use std::fmt::Write as _;

use serde_json::Value;

use super::productpage::Part;

/// The book.
pub(super) const TITLE: &str = "The Comedy of Errors";

/// What it is about.
pub(super) const DESCRIPTION: &str = "Two brothers who look alike, two servants who look alike, \
     and a town that takes each for the other: a farce in five short acts.";

const STYLE: &str = "
:root{color-scheme:light dark;--ink:#1d2330;--soft:#667085;--line:#e3e6ec;--card:#fff;\
--ground:#f5f6f9;--accent:#3a5bd9}
@media(prefers-color-scheme:dark){:root{--ink:#e8eaf0;--soft:#98a2b3;--line:#2b3242;\
--card:#1a1f2b;--ground:#12161f;--accent:#8ea6ff}}
*{box-sizing:border-box}
body{margin:0;background:var(--ground);color:var(--ink);font:16px/1.55 system-ui,sans-serif}
header{display:flex;justify-content:space-between;gap:1rem;padding:.9rem 1.5rem;\
background:var(--card);border-bottom:1px solid var(--line)}
header b{letter-spacing:.02em}
a{color:var(--accent)}
main{max-width:62rem;margin:0 auto;padding:2rem 1.5rem}
h1{margin:0 0 .25rem;font-size:2rem}
.lead{color:var(--soft);max-width:44rem;margin:0 0 2rem}
.grid{display:grid;gap:1.25rem;grid-template-columns:repeat(auto-fit,minmax(18rem,1fr))}
section{background:var(--card);border:1px solid var(--line);border-radius:.75rem;padding:1.25rem}
h2{margin:0 0 .75rem;font-size:1.05rem}
dl{display:grid;grid-template-columns:auto 1fr;gap:.3rem 1rem;margin:0}
dt{color:var(--soft)}dd{margin:0}
blockquote{margin:0 0 1rem}
cite{display:block;color:var(--soft);font-style:normal;font-size:.9rem}
.black{color:var(--ink)}.red{color:#d92d20}
.by{color:var(--soft);font-size:.85rem;margin:1rem 0 0}
.fault{color:#b54708}
";

/// Renders the page.
pub(super) fn render(user: Option<&str>, details: &Part, reviews: &Part) -> String {
    let mut page = String::with_capacity(6 * 1024);
    page.push_str("<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">");
    page.push_str("<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">");
    put(&mut page, format_args!("<title>{TITLE}</title><style>{STYLE}</style></head><body>"));
    page.push_str("<header><b>Bookinfo on Weft</b><span>");
    match user {
        Some(user) => {
            put(&mut page, format_args!("signed in as {} · ", escaped(user)));
            page.push_str("<a href=\"/productpage\">sign out</a>");
        }
        None => page.push_str("<a href=\"/productpage?u=jason\">sign in as jason</a>"),
    }
    put(&mut page, format_args!("</span></header><main><h1>{TITLE}</h1>"));
    put(&mut page, format_args!("<p class=\"lead\">{}</p><div class=\"grid\">", DESCRIPTION));
    details_section(&mut page, details);
    reviews_section(&mut page, reviews);
    page.push_str("</div></main></body></html>\n");
    page
}

fn details_section(page: &mut String, details: &Part) {
    page.push_str("<section><h2>Details</h2>");
    match details {
        Err(why) => fault(page, why),
        Ok(details) => {
            page.push_str("<dl>");
            for (label, field) in [
                ("Author", "author"),
                ("Year", "year"),
                ("Type", "type"),
                ("Pages", "pages"),
                ("Publisher", "publisher"),
                ("Language", "language"),
            ] {
                let value = plain(&details[field]);
                put(page, format_args!("<dt>{label}</dt><dd>{}</dd>", escaped(&value)));
            }
            page.push_str("</dl>");
            served_by(page, details);
        }
    }
    page.push_str("</section>");
}

fn reviews_section(page: &mut String, reviews: &Part) {
    page.push_str("<section><h2>Reviews</h2>");
    match reviews {
        Err(why) => fault(page, why),
        Ok(reviews) => {
            for review in reviews["reviews"].as_array().into_iter().flatten() {
                let text = plain(&review["text"]);
                let reviewer = plain(&review["reviewer"]);
                put(page, format_args!("<blockquote>{}", escaped(&text)));
                put(page, format_args!("<cite>{}</cite>", escaped(&reviewer)));
                stars(page, &review["rating"]);
                page.push_str("</blockquote>");
            }
            served_by(page, reviews);
        }
    }
    page.push_str("</section>");
}

fn stars(page: &mut String, rating: &Value) {
    if let Some(why) = rating["error"].as_str() {
        fault(page, &format!("no stars: {why}"));
        return;
    }
    let Some(count) = rating["stars"].as_u64() else { return };
    let count = usize::try_from(count.min(5)).unwrap_or(5);
    let colour = if rating["color"] == "red" { "red" } else { "black" };
    let (full, empty) = ("★".repeat(count), "☆".repeat(5 - count));
    put(page, format_args!("<span class=\"{colour}\" title=\"{count} of 5\">{full}{empty}</span>"));
}

fn served_by(page: &mut String, part: &Value) {
    let instance = plain(&part["instance"]);
    put(page, format_args!("<p class=\"by\">served by {}</p>", escaped(&instance)));
}

fn fault(page: &mut String, why: &str) {
    put(page, format_args!("<p class=\"fault\">{}</p>", escaped(why)));
}

fn plain(value: &Value) -> String {
    match value {
        Value::Null => "–".to_owned(),
        Value::String(text) => text.clone(),
        Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => value.to_string(),
    }
}

fn put(page: &mut String, text: std::fmt::Arguments<'_>) {
    page.write_fmt(text).expect("a String takes everything");
}

/// Returns text that means itself in HTML, between tags and in quoted attributes.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_from_elsewhere_cannot_become_markup() {
        let details = Ok(json!({ "author": "<script>alert(1)</script>", "instance": "a\"b" }));
        let page = render(None, &details, &Err("<b>".to_owned()));
        assert!(!page.contains("<script>"), "{page}");
        assert!(page.contains("&lt;script&gt;"), "{page}");
        assert!(page.contains("a&quot;b"), "{page}");
    }

    #[test]
    fn stars_are_drawn_in_their_colour() {
        let review = |colour| {
            json!({ "reviews": [{ "reviewer": "r", "text": "t",
                "rating": { "stars": 4, "color": colour } }] })
        };
        let red = render(None, &Err(String::new()), &Ok(review("red")));
        assert!(red.contains("<span class=\"red\" title=\"4 of 5\">★★★★☆</span>"), "{red}");
        let black = render(Some("jason"), &Err(String::new()), &Ok(review("black")));
        assert!(black.contains("class=\"black\""), "{black}");
        assert!(black.contains("signed in as jason"), "{black}");
    }
}
