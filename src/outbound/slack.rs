//! Message for a Slack incoming webhook: blocks, and the same content as `text` for clients
//! without block support (notifications, Mattermost, Rocket.Chat).

use serde_json::{Value, json};

use super::text::{bars, facts, headline, one_line, parts};
use crate::domain::alert::{AlertFact, Notification};

/// Slack limits: a message that exceeds any of these is refused as a whole.
const HEADER_CHARACTERS: usize = 150;
const SECTION_CHARACTERS: usize = 3000;
const FIELD_CHARACTERS: usize = 2000;
const MAX_FIELDS: usize = 10;
/// Fences a table, so that it is shown in a monospaced font.
const FENCE: &str = "```";

/// The JSON body for a Slack incoming webhook.
pub fn slack_message(notice: &Notification) -> Value {
    let header = escaped(&headline(notice), HEADER_CHARACTERS);
    let body = escaped(&body(notice), SECTION_CHARACTERS);
    let mut blocks =
        vec![json!({ "type": "header", "text": { "type": "plain_text", "text": header } })];
    if !body.is_empty() {
        blocks.push(section(&body));
    }
    let parts: Vec<String> = parts(notice).iter().map(|part| format!("• {part}")).collect();
    let parts = escaped(&parts.join("\n"), SECTION_CHARACTERS);
    if !parts.is_empty() {
        blocks.push(section(&parts));
    }
    if !notice.facts.is_empty() {
        let fields: Vec<_> =
            notice.facts.iter().take(MAX_FIELDS).map(|fact| mrkdwn(&field(fact))).collect();
        blocks.push(json!({ "type": "section", "fields": fields }));
    }
    if let Some(picture) = notice.picture.as_ref().filter(|picture| !picture.bars.is_empty()) {
        let table = bars(&picture.bars).replace('`', "'");
        let table = escaped(table.trim_end(), SECTION_CHARACTERS - 2 * FENCE.len() - 2);
        blocks.push(section(&format!("{FENCE}\n{table}\n{FENCE}")));
    }
    let context = context(notice);
    blocks.push(json!({ "type": "context", "elements": [mrkdwn(&context)] }));
    let facts = escaped(&facts(notice), SECTION_CHARACTERS);
    let mut text = vec![header, body, parts, facts, context];
    text.retain(|part| !part.is_empty());
    json!({ "text": text.join("\n"), "blocks": blocks })
}

fn section(text: &str) -> Value {
    json!({ "type": "section", "text": mrkdwn(text) })
}

fn mrkdwn(text: &str) -> Value {
    json!({ "type": "mrkdwn", "text": text })
}

fn body(notice: &Notification) -> String {
    let parts = [notice.description.trim(), notice.advice.trim()];
    parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("\n\n")
}

fn field(fact: &AlertFact) -> String {
    let name = escaped(&one_line(&fact.name), FIELD_CHARACTERS / 4);
    let value = escaped(&one_line(&fact.value), FIELD_CHARACTERS / 2);
    format!("*{name}*\n{value}")
}

/// Owner, start time and link.
fn context(notice: &Notification) -> String {
    let mut parts = vec![format!("since {}", notice.started_at)];
    if let Some(owner) = &notice.owner {
        parts.insert(0, format!("owner: {}", escaped(&one_line(owner), FIELD_CHARACTERS / 4)));
    }
    // These characters end the link markup.
    let link = notice.link.as_ref().filter(|link| !link.contains(['|', '<', '>', ' ']));
    if let Some(link) = link {
        // A truncated address is useless.
        let escaped = escaped(link, usize::MAX);
        if escaped.len() <= FIELD_CHARACTERS / 2 {
            parts.push(format!("<{escaped}|more>"));
        }
    }
    parts.join(" · ")
}

/// Escapes links, mentions and commands, and truncates to `most` characters.
fn escaped(text: &str, most: usize) -> String {
    let mut escaped = String::new();
    let mut length = 0;
    for c in text.chars() {
        let mut letter = [0; 4];
        let written = match c {
            '&' => "&amp;",
            '<' => "&lt;",
            '>' => "&gt;",
            c => &*c.encode_utf8(&mut letter),
        };
        length += written.chars().count();
        // One character is reserved for the ellipsis that marks a truncation.
        if length >= most {
            escaped.push('…');
            break;
        }
        escaped.push_str(written);
    }
    escaped
}
