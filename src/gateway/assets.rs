//! A path becomes a file of the pages. The build puts them into the executable: see `build.rs` and `web/build.mjs`.

/// A file that browsers may have.
#[derive(Debug)]
pub struct File {
    pub path: &'static str,
    pub content_type: &'static str,
    pub bytes: &'static [u8],
}

// `FILES: &[File]`, and the path of each by a name: `FAVICON`, `MANIFEST`, `PAGE_STYLE`, `STARTING_SCRIPT`, `TERMINAL_SCRIPT` and
// `TERMINAL_STYLE`.
include!(concat!(env!("OUT_DIR"), "/assets.rs"));

/// What a browser asks for by itself, whatever a page says.
const FAVICON_BY_CUSTOM: &str = "/favicon.ico";

pub fn find(path: &str) -> Option<&'static File> {
    let path = if path == FAVICON_BY_CUSTOM { FAVICON } else { path };
    FILES.iter().find(|file| file.path == path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pages_have_what_they_name() {
        for (path, content_type) in [
            (FAVICON, "image/svg+xml"),
            (FAVICON_BY_CUSTOM, "image/svg+xml"),
            (MANIFEST, "application/manifest+json"),
            (PAGE_STYLE, "text/css; charset=utf-8"),
            (STARTING_SCRIPT, "text/javascript; charset=utf-8"),
            (TERMINAL_SCRIPT, "text/javascript; charset=utf-8"),
            (TERMINAL_STYLE, "text/css; charset=utf-8"),
        ] {
            let file = find(path).unwrap_or_else(|| panic!("{path} is missing"));
            assert_eq!(file.content_type, content_type, "{path}");
            assert!(!file.bytes.is_empty(), "{path}");
        }
        assert!(find("/assets/").is_none());
        assert!(find("/assets/../page.css").is_none());
    }

    /// No page of a closed network may look for something outside it.
    #[test]
    fn styles_fetch_nothing_from_elsewhere() {
        for file in FILES.iter().filter(|file| file.path.ends_with(".css")) {
            let text = std::str::from_utf8(file.bytes).unwrap();
            assert!(!text.contains("url(http") && !text.contains("url(//"), "{}", file.path);
        }
    }
}
