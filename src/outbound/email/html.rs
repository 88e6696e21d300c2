//! HTML part of a mail: tables and inline styles, as mail clients drop the rest.

use std::fmt::Write as _;

use super::{PICTURE_ID, owner_and_times};
use crate::domain::alert::{AlertState, ChartBar, Notification};
use crate::domain::drift::Severity;
use crate::domain::presentation::escape_xml;
use crate::outbound::text::{self, one_line, percent, state_label};

/// Width in pixels of a bar for a share of 1.
const BAR_PIXELS: f64 = 160.0;
const BEFORE_COLOUR: &str = "#7b8794";
const NOW_COLOUR: &str = "#c2410c";
const CELL_STYLE: &str = "padding:2px 12px 2px 0;text-align:left;vertical-align:top";
const BODY_STYLE: &str = "font-family:sans-serif;font-size:14px;line-height:1.4;color:#1f2933;\
    background-color:#ffffff;margin:0;padding:16px";

/// The HTML part of a notification mail.
pub fn render_html(notice: &Notification) -> String {
    let mut page = format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head><meta charset=\"utf-8\"><title>{title}</title></head>\n\
         <body style=\"{BODY_STYLE}\">\n\
         <p style=\"margin:0 0 8px\"><span style=\"background-color:{colour};color:#ffffff;\
         padding:2px 8px;font-weight:bold\">{state_label}</span></p>\n\
         <h1 style=\"font-size:18px;margin:0 0 12px\">{title}</h1>\n",
        title = escaped_line(&notice.title),
        colour = state_colour(notice),
        state_label = state_label(notice),
    );
    for part in [&notice.description, &notice.advice] {
        paragraphs(&mut page, part);
    }
    parts(&mut page, notice);
    facts(&mut page, notice);
    if let Some(picture) = &notice.picture {
        if !picture.bars.is_empty() {
            bars(&mut page, &picture.bars);
        }
        // Empty `alt`: the table above contains the same figures.
        let _ = writeln!(
            page,
            "<p><img src=\"cid:{PICTURE_ID}\" alt=\"\" style=\"max-width:100%;border:0\"></p>"
        );
    }
    let since: Vec<_> = owner_and_times(notice).iter().map(|text| escaped_line(text)).collect();
    let _ = writeln!(page, "<p style=\"color:#52606d\">{}</p>", since.join("<br>"));
    if let Some(link) = notice.link.as_deref().filter(|link| is_web_link(link)) {
        let link = escape_xml(link);
        let _ = writeln!(page, "<p><a href=\"{link}\">{link}</a></p>");
    }
    page.push_str("</body>\n</html>\n");
    page
}

fn escaped_line(text: &str) -> String {
    escape_xml(&one_line(text))
}

/// Only web addresses become clickable links.
fn is_web_link(link: &str) -> bool {
    link.starts_with("https://") || link.starts_with("http://")
}

fn state_colour(notice: &Notification) -> &'static str {
    match (notice.state, notice.severity) {
        (AlertState::Resolved, _) => "#2f855a",
        (AlertState::Firing, Severity::Notice) => "#2b6cb0",
        (AlertState::Firing, Severity::Warning) => "#b7791f",
        (AlertState::Firing, Severity::Critical) => "#c53030",
    }
}

// Writing to a string cannot fail.

fn paragraphs(page: &mut String, text: &str) {
    for part in text.split("\n\n").map(str::trim).filter(|part| !part.is_empty()) {
        let lines: Vec<_> = part.lines().map(escaped_line).collect();
        let _ = writeln!(page, "<p style=\"margin:0 0 12px\">{}</p>", lines.join("<br>"));
    }
}

fn parts(page: &mut String, notice: &Notification) {
    let parts = text::parts(notice);
    if parts.is_empty() {
        return;
    }
    page.push_str("<ul style=\"margin:0 0 12px;padding-left:20px\">\n");
    for part in parts {
        let _ = writeln!(page, "<li>{}</li>", escaped_line(&part));
    }
    page.push_str("</ul>\n");
}

fn facts(page: &mut String, notice: &Notification) {
    if notice.facts.is_empty() {
        return;
    }
    page.push_str("<table cellpadding=\"0\" cellspacing=\"0\" style=\"margin:0 0 12px\">\n");
    for fact in &notice.facts {
        let (name, value) = (escaped_line(&fact.name), escaped_line(&fact.value));
        let _ = writeln!(
            page,
            "<tr><th style=\"{CELL_STYLE};font-weight:normal;color:#52606d\">{name}</th>\
             <td style=\"{CELL_STYLE}\">{value}</td></tr>"
        );
    }
    page.push_str("</table>\n");
}

fn bars(page: &mut String, bars: &[ChartBar]) {
    page.push_str("<table cellpadding=\"0\" cellspacing=\"0\" style=\"margin:0 0 12px\">\n");
    let _ = writeln!(
        page,
        "<tr><th style=\"{CELL_STYLE}\"></th>\
         <th style=\"{CELL_STYLE};color:{BEFORE_COLOUR}\">before</th>\
         <th style=\"{CELL_STYLE};color:{NOW_COLOUR}\">now</th>\
         <th style=\"{CELL_STYLE}\"></th></tr>"
    );
    for bar in bars {
        let (label, before, now) =
            (escaped_line(&bar.label), percent(bar.before), percent(bar.now));
        let drawn = bar_html(bar.before, BEFORE_COLOUR) + &bar_html(bar.now, NOW_COLOUR);
        let _ = writeln!(
            page,
            "<tr><td style=\"{CELL_STYLE}\">{label}</td><td style=\"{CELL_STYLE}\">{before}</td>\
             <td style=\"{CELL_STYLE}\">{now}</td><td style=\"{CELL_STYLE}\">{drawn}</td></tr>"
        );
    }
    page.push_str("</table>\n");
}

/// A bar as a nested table cell: every client applies its width and colour.
fn bar_html(share: f64, colour: &str) -> String {
    let pixels = (BAR_PIXELS * share.clamp(0.0, 1.0)).round().max(1.0);
    format!(
        "<table cellpadding=\"0\" cellspacing=\"0\"><tr><td width=\"{pixels}\" height=\"8\" \
         bgcolor=\"{colour}\" style=\"width:{pixels}px;height:8px;font-size:1px;line-height:8px\">\
         &nbsp;</td></tr></table>"
    )
}
