//! The page: everything is in it, and it says the same without its script, which only fetches it anew.

use http::header::HeaderValue;

use super::chart;
use super::figures::Figures;
use super::format::{duration, escape, figure, moment, number};
use super::sections;

const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// Nothing may be loaded but the page itself, by its own script; style sheet and script are allowed by their SHA-256.
pub(super) const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; style-src 'sha256-amWyf5WwiU4f8eq585EaWIIG1q6RmUmvyJSAs8RSINY='; script-src 'sha256-KUMdRUpgTH0kRIjT1aMSaeihirNYD6Wz1Pa0NxAIPYQ='; connect-src 'self'; img-src data:; base-uri 'none'; \
     form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'",
);

/// A part of the page, which the script replaces when it has changed.
pub(super) struct Section {
    /// Unique in the page, and what the navigation leads to.
    pub(super) id: &'static str,
    pub(super) heading: &'static str,
    pub(super) html: String,
}

/// The page with all figures.
pub(super) fn render(figures: &Figures) -> String {
    let sections = sections::all(figures);
    let links: String = sections
        .iter()
        .map(|section| format!("<li><a id=\"to-{0}\" href=\"#{0}\">{1}</a></li>", section.id, section.heading))
        .collect();
    let body: String = sections
        .iter()
        .map(|Section { id, heading, html }| {
            format!(
                "<section id=\"{id}\" aria-labelledby=\"{id}-heading\">\n<h2 id=\"{id}-heading\">{heading}</h2>\n\
                 <div id=\"{id}-live\" data-live>\n{html}</div>\n</section>\n"
            )
        })
        .collect();
    let host = escape(&figures.server.host);
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>{host} – Q-TLS</title>\n<link rel=\"icon\" href=\"data:,\">\n<style>{STYLE}</style>\n</head>\n\
         <body data-version=\"{version}\">\n<a class=\"skip\" href=\"#main\">Skip to the figures</a>\n{patterns}\
         <header>\n<div class=\"inner\">\n<div class=\"title\"><p>Q-TLS</p>\n<h1>{host}</h1></div>\n\
         <div class=\"state\" id=\"state\" data-live>{state}</div>\n\
         <div class=\"refresh\"><span id=\"as-of\" data-live>As of {now}</span>\n\
         <button id=\"pause\" type=\"button\" aria-pressed=\"false\" hidden>Pause updates</button>\
         <noscript><a href=\"/dashboard\">Reload</a></noscript></div>\n\
         <p class=\"stale\" id=\"stale\" role=\"status\"></p>\n</div>\n\
         <nav aria-label=\"Sections\"><ul class=\"inner\">{links}</ul></nav>\n</header>\n\
         <main id=\"main\" tabindex=\"-1\">\n{body}</main>\n\
         <footer class=\"inner\"><p>The same for programs: <a href=\"/dashboard.json\">dashboard.json</a>, and for \
         Prometheus: the metrics on this port. Nothing here can change the server.</p></footer>\n\
         <script>{SCRIPT}</script>\n</body>\n</html>\n",
        version = figures.server.version,
        patterns = chart::patterns(),
        state = state(figures),
        now = moment(figures.at),
    )
}

fn state(figures: &Figures) -> String {
    let server = &figures.server;
    let (class, mark, word) = if server.ready {
        ("good", "✓", "Ready".to_owned())
    } else {
        ("bad", "!", format!("Not ready: {}", server.phase))
    };
    format!(
        "<p class=\"pill {class}\"><span aria-hidden=\"true\">{mark} </span>{word}</p>\n\
         <p>{listens} · up {uptime} · configuration {generation}</p>",
        listens = escape(&server.listens),
        uptime = figure("/server/uptime", server.uptime, &duration(server.uptime)),
        generation = figure("/server/generation", server.generation, &number(server.generation)),
    )
}

#[cfg(test)]
mod tests;
