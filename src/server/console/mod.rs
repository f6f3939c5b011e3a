//! `GET /console`: a page on which a venue is seen at work, and used.
//!
//! The page is files that stand beside this one, as they were written, and is made of nothing else: no
//! framework, no build, no request to anybody but this server. It shows what the public interface tells, asks
//! with the key that its visitor gives it, and so may no more than that key. The files themselves are for
//! anybody: there is nothing in them but the program.
//!
//! | file | does |
//! |---|---|
//! | `console.html`, `console.css` | what there is, and how it looks |
//! | `icon.svg` | the latch |
//! | `app.js` | which part is shown, light or dark, the key |
//! | `api.js` | requests: key, patience, problems in words |
//! | `dom.js` | elements and numbers as text; nothing is ever made of HTML in a string |
//! | `chart.js` | lines over time, and the depth of a book |
//! | `live.js`, `markets.js`, `lookup.js` | the three parts |
//! | `book.js` | a book as `/v1/stream` tells it, with its checksum |

use axum::http::{HeaderName, HeaderValue, header};
use axum::response::{IntoResponse, Response};

use super::problem::Problem;
use super::query::Param;

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";

const PICTURE: &str = "image/svg+xml";

/// The page itself.
const PAGE: &str = include_str!("console.html");

macro_rules! files {
    ($($name:literal: $kind:expr,)*) => {
        /// What the page is made of beside itself: name, type, text.
        const FILES: &[(&str, &str, &str)] = &[$(($name, $kind, include_str!($name))),*];
    };
}

files! {
    "console.css": CSS,
    "icon.svg": PICTURE,
    "app.js": SCRIPT,
    "api.js": SCRIPT,
    "dom.js": SCRIPT,
    "chart.js": SCRIPT,
    "live.js": SCRIPT,
    "book.js": SCRIPT,
    "markets.js": SCRIPT,
    "lookup.js": SCRIPT,
}

/// What the page may do: run its own scripts, and talk to its own server. Nobody may frame it.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
                      connect-src 'self'; base-uri 'none'; form-action 'none'; \
                      frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'";

const HEADERS: [(HeaderName, &str); 5] = [
    (header::CONTENT_SECURITY_POLICY, POLICY),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::X_FRAME_OPTIONS, "DENY"),
    // Another version of the server has another page.
    (header::CACHE_CONTROL, "no-cache"),
];

/// The page.
pub(super) async fn page() -> Response {
    told(HTML, PAGE)
}

/// What it is made of.
pub(super) async fn file(Param(name): Param<String>) -> Result<Response, Problem> {
    find(&name)
}

/// The file of that name.
///
/// # Errors
/// `not_found`.
pub(super) fn find(name: &str) -> Result<Response, Problem> {
    let found = FILES.iter().find(|(known, ..)| *known == name);
    let (_, kind, text) = found.ok_or_else(|| {
        Problem::new("not_found", "there is no such file of the console").at("file")
    })?;
    Ok(told(kind, text))
}

/// The names of what the page is made of.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    FILES.iter().map(|(name, ..)| *name)
}

fn told(kind: &'static str, text: &'static str) -> Response {
    let mut response = ([(header::CONTENT_TYPE, kind)], text).into_response();
    let headers = HEADERS.map(|(name, value)| (name, HeaderValue::from_static(value)));
    response.headers_mut().extend(headers);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_that_is_named_is_there_and_nothing_is_from_elsewhere() {
        for (name, _, text) in FILES.iter().chain([&("console.html", HTML, PAGE)]) {
            assert!(!text.is_empty(), "{name}");
            for far in
                ["http://", "https://", "//cdn", "innerHTML", "eval(", "style=\"", "onclick=\""]
            {
                let found = text.lines().find(|line| line.contains(far));
                // SVG has a name that looks like an address, and is none.
                let found = found.filter(|line| !line.contains("http://www.w3.org/2000/svg"));
                assert_eq!(found, None, "{name} has {far}");
            }
        }
        let quoted = PAGE.split('"').filter_map(|part| part.strip_prefix("console/"));
        let named: Vec<&str> = quoted.collect();
        assert!(named.contains(&"app.js") && named.contains(&"console.css"));
        let scripts = FILES.iter().filter(|(_, kind, _)| *kind == SCRIPT);
        let imported = scripts.flat_map(|(_, _, text)| {
            let lines = text.lines().filter(|line| line.starts_with("import "));
            lines.filter_map(|line| line.split('"').nth(1)?.strip_prefix("./"))
        });
        for name in named.into_iter().chain(imported) {
            assert!(names().any(|known| known == name), "{name} is not served");
        }
    }
}
