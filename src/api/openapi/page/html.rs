//! Text as HTML.

/// Text with code in back quotes, and paragraphs, as HTML.
pub(super) fn marked_up(text: &str) -> String {
    let mut html = String::new();
    for (at, part) in text.split('`').enumerate() {
        let part = escape(part);
        if at % 2 == 1 {
            html = html + "<code>" + &part + "</code>";
        } else {
            html.push_str(&part.replace("\n\n", "</p><p>"));
        }
    }
    html
}

pub(super) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// An id of an element: the kind of the element and a name, in letters, digits and hyphens.
pub(super) fn anchor(kind: &str, name: &str) -> String {
    let name: String =
        name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    format!("{kind}-{name}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_cannot_become_markup() {
        assert_eq!(marked_up("a `<b>` & <c>"), "a <code>&lt;b&gt;</code> &amp; &lt;c&gt;");
        assert_eq!(anchor("group", "API keys"), "group-API-keys");
    }
}
