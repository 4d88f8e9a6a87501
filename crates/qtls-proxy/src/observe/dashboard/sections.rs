//! The parts of the page.

use std::fmt::Write;

use super::chart::{self, Bars, CLASSICAL, Chart, FAILED, Fill, POST_QUANTUM};
use super::figures::{
    Bytes, CertificateFigures, CertificateState, Count, FALLBACKS, Figures, Handshakes, LimitFigures, Line, Series,
    Share, UpstreamFigures,
};
use super::format::{ago, bytes, count_figure, duration, escape, figure, moment, number, percent, short_time, text};
use super::grid::{Grid, numbers, words};
use super::page::Section;

/// All of them, in their order.
pub(super) fn all(figures: &Figures) -> Vec<Section> {
    let section = |id, heading, html| Section { id, heading, html };
    vec![
        section("overview", "Overview", overview(figures)),
        section("time", "Groups and schemes", time(figures)),
        section("exposure", "Exposure", exposure(figures)),
        section("fallbacks", "Clients that fall back", fallbacks(figures)),
        section("clients", "What clients offer", clients(figures)),
        section("certificates", "Certificates", certificates(figures)),
        section("upstreams", "Upstreams", upstreams(figures)),
        section("errors", "Errors and limits", errors(figures)),
        section("server", "Server", server(figures)),
    ]
}

fn overview(figures: &Figures) -> String {
    let Figures { handshakes, connections, exposure, .. } = figures;
    let (classical, post_quantum) = (exposure.classical.sum(), exposure.post_quantum.sum());
    let carried = classical + post_quantum;
    let failed = handshakes.last_hour.failed;
    format!(
        "{attention}<div class=\"cards\">\n<div class=\"card wide\">\n<h3>Post-quantum key exchange</h3>\n{share}</div>\n\
         <div class=\"card\">\n<h3>Recordable today</h3>\n\
         <p class=\"big\">{part}</p>\n<p>of all bytes went over classical key exchange: {amount} of {total} since the start. \
         Whoever records them can read them once there is a large quantum computer.</p>\n{bar}</div>\n</div>\n\
         <dl class=\"tiles\">\n\
         <div><dt>Open connections</dt><dd>{active}</dd></div>\n\
         <div><dt>Handshakes a second</dt><dd>{rate}</dd><dd class=\"soft\">in the last minute</dd></div>\n\
         <div><dt>Failed handshakes</dt><dd>{failed}</dd><dd class=\"soft\">{failed_share} of the last hour’s</dd></div>\n\
         <div><dt>Time for a handshake</dt><dd>{mean}</dd><dd class=\"soft\">mean since the start</dd></div>\n</dl>\n",
        attention = attention(figures),
        share = post_quantum_share(handshakes),
        part = percent(classical, carried),
        amount = bytes(classical),
        total = bytes(carried),
        bar = chart::share(
            &[(post_quantum, POST_QUANTUM), (classical, CLASSICAL)],
            &format!("{} of the bytes over classical key exchange", percent(classical, carried)),
        ),
        active = count_figure("/connections/active", connections.active),
        rate = figure("/handshakes/per_second", handshakes.per_second, &format!("{:.1}", handshakes.per_second)),
        failed = count_figure("/handshakes/last_hour/failed", failed),
        failed_share = percent(failed, failed + handshakes.last_hour.total),
        mean = handshakes.mean_seconds.map_or("–".to_owned(), |mean| figure(
            "/handshakes/mean_seconds",
            mean,
            &short_time(mean)
        )),
    )
}

/// What has to be seen before any figure, each with the way to its section; nothing where all is well.
fn attention(figures: &Figures) -> String {
    let with_state = |state: CertificateState| {
        let found = figures.certificates.iter().filter(move |certificate| certificate.state == state);
        found.map(|certificate| certificate.name.as_str())
    };
    let down = figures.upstreams.iter().filter(|upstream| !upstream.up).map(|upstream| upstream.name.as_str());
    let refused = figures.server.last_reload.as_ref().is_some_and(|last| last.refused.is_some());
    let all = [
        ("certificates", "expired", "Expired", some_of(with_state(CertificateState::Expired))),
        ("certificates", "not-yet", "Not valid yet", some_of(with_state(CertificateState::NotYetValid))),
        ("certificates", "soon", "Expires soon", some_of(with_state(CertificateState::ExpiresSoon))),
        ("upstreams", "down", "Upstream down", some_of(down)),
        ("server", "refused", "Last reload refused", refused.then(|| "the old state is in force".to_owned())),
    ];
    let items: String = all
        .into_iter()
        .filter_map(|(section, id, what, which)| {
            Some(format!(
                "<li><span aria-hidden=\"true\">! </span><a id=\"attention-{id}\" href=\"#{section}\">{what}</a>: {}</li>\n",
                which?
            ))
        })
        .collect();
    if items.is_empty() {
        return String::new();
    }
    format!("<ul class=\"attention\" aria-label=\"What needs attention\">\n{items}</ul>\n")
}

/// The first names, and how many more there are.
fn some_of<'a>(names: impl Iterator<Item = &'a str>) -> Option<String> {
    const SHOWN: usize = 3;
    let names: Vec<_> = names.collect();
    let shown: Vec<_> = names.iter().take(SHOWN).map(|name| text(name)).collect();
    let more = names.len().saturating_sub(SHOWN);
    match shown.as_slice() {
        [] => None,
        shown if more == 0 => Some(shown.join(", ")),
        shown => Some(format!("{}, and {} more", shown.join(", "), number(more as u64))),
    }
}

fn post_quantum_share(handshakes: &Handshakes) -> String {
    let Handshakes { total, post_quantum, failed, last_hour, last_day, .. } = handshakes;
    if *total == 0 {
        return "<p class=\"big\">–</p>\n<p>There has been no handshake yet.</p>\n".to_owned();
    }
    let all = Share { total: *total, post_quantum: *post_quantum, failed: *failed };
    let (shown, of) = if last_hour.total > 0 { (last_hour, "last hour") } else { (&all, "time since the start") };
    let mut html = format!(
        "<p class=\"big\">{} <small>of the handshakes of the {of}</small></p>\n",
        percent(shown.post_quantum, shown.total)
    );
    html.push_str(&chart::legend([("post-quantum", POST_QUANTUM), ("classical", CLASSICAL)].into_iter()));
    html.push_str("<dl class=\"shares\">\n");
    for (name, pointer, share) in [
        ("Last hour", "/handshakes/last_hour", *last_hour),
        ("Last 24 hours", "/handshakes/last_day", *last_day),
        ("Since the start", "/handshakes", all),
    ] {
        let _ = writeln!(
            html,
            "<div><dt>{name}</dt><dd>{bar}</dd><dd>{percent} <span class=\"soft\">{part} of {total}</span></dd></div>",
            bar = chart::share(
                &[(share.post_quantum, POST_QUANTUM), (share.total - share.post_quantum, CLASSICAL)],
                &format!("{} post-quantum", percent(share.post_quantum, share.total)),
            ),
            percent = percent(share.post_quantum, share.total),
            part = count_figure(&format!("{pointer}/post_quantum"), share.post_quantum),
            total = count_figure(&format!("{pointer}/total"), share.total),
        );
    }
    html.push_str("</dl>\n");
    html
}

fn time(figures: &Figures) -> String {
    let (hour, day) = (&figures.history.hour, &figures.history.day);
    let groups =
        pair("groups", "Key exchange groups", "Handshakes", [hour, day], |series| lines(&series.groups), number);
    let schemes = pair(
        "schemes",
        "What the server signed with",
        "Handshakes",
        [hour, day],
        |series| lines(&series.schemes),
        number,
    );
    format!("<div class=\"cards\">\n{groups}{schemes}</div>\n")
}

fn lines(lines: &[Line]) -> Vec<Bars<'_>> {
    let bars = |line| Bars { name: shown_name(line), fill: Fill::of(line), counts: &line.counts };
    let mut lines: Vec<_> = lines.iter().collect();
    // What is post-quantum stands at the bottom, where lengths can be compared.
    lines.sort_by_key(|line| line.post_quantum != Some(true));
    lines.into_iter().map(bars).collect()
}

fn shown_name(line: &Line) -> &str {
    if line.name == "none" { "nothing: resumed" } else { line.name }
}

/// The last hour and the last day of the same, in one card.
fn pair<'a>(
    id: &str,
    heading: &str,
    what: &str,
    series: [&'a Series; 2],
    bars: impl Fn(&'a Series) -> Vec<Bars<'a>>,
    shown: fn(u64) -> String,
) -> String {
    let ids = [format!("{id}-hour"), format!("{id}-day")];
    let [hour, day] = [0, 1].map(|index| Chart {
        id: &ids[index],
        what,
        slot_seconds: series[index].slot_seconds,
        series: bars(series[index]),
        shown,
    });
    let mut known: Vec<(&str, Fill)> = Vec::new();
    for bars in day.series.iter().chain(&hour.series) {
        if !known.iter().any(|(name, _)| *name == bars.name) {
            known.push((bars.name, bars.fill));
        }
    }
    format!(
        "<div class=\"card\">\n<h3>{heading}</h3>\n{legend}{}{}\
         <details id=\"{id}-tables\"><summary id=\"{id}-summary\">As tables</summary>\n{}{}</details>\n</div>\n",
        hour.svg(),
        day.svg(),
        hour.table(&format!("{heading}: last hour")),
        day.table(&format!("{heading}: last 24 hours")),
        legend = if known.is_empty() {
            "<p class=\"soft\">Nothing in the last 24 hours.</p>\n".to_owned()
        } else {
            chart::legend(known.into_iter())
        },
    )
}

fn exposure(figures: &Figures) -> String {
    let (hour, day) = (&figures.history.hour, &figures.history.day);
    let chart = pair(
        "bytes",
        "Bytes over time",
        "Bytes",
        [hour, day],
        |series| {
            let all = [
                Bars { name: "post-quantum", fill: POST_QUANTUM, counts: &series.post_quantum_bytes },
                Bars { name: "classical", fill: CLASSICAL, counts: &series.classical_bytes },
            ];
            all.into_iter().filter(|bars| bars.counts.iter().any(|count| *count > 0)).collect()
        },
        bytes,
    );
    let rows = figures.exposure.names.iter().enumerate().map(|(index, name)| {
        let (classical, post_quantum) = (name.classical.sum(), name.post_quantum.sum());
        let share = percent(classical, classical + post_quantum);
        let bar = chart::share(&[(post_quantum, POST_QUANTUM), (classical, CLASSICAL)], &format!("{share} classical"));
        let pointer = |kind: &str| format!("/exposure/names/{index}/{kind}");
        vec![
            text(&name.server_name).into_owned(),
            directions(&pointer("classical"), name.classical),
            directions(&pointer("post_quantum"), name.post_quantum),
            format!("{share}{bar}"),
        ]
    });
    let table = Grid {
        id: "exposure-table",
        caption: "Plaintext since the start, by the name that clients asked for",
        columns: &[words("Server name"), numbers("Classical"), numbers("Post-quantum"), numbers("Classical share")],
        rows: rows.collect(),
        stacks: true,
    };
    let table = if table.rows.is_empty() {
        "<p class=\"soft\">No byte has been carried yet.</p>\n".to_owned()
    } else {
        table.html()
    };
    format!("<div class=\"cards\">\n<div class=\"card\">\n<h3>By server name</h3>\n{table}</div>\n{chart}</div>\n")
}

fn directions(pointer: &str, found: Bytes) -> String {
    format!(
        "{sum}<span class=\"sub\">{received} in</span><span class=\"sub\">{sent} out</span>",
        sum = bytes(found.sum()),
        received = figure(&format!("{pointer}/received"), found.received, &bytes(found.received)),
        sent = figure(&format!("{pointer}/sent"), found.sent, &bytes(found.sent)),
    )
}

fn fallbacks(figures: &Figures) -> String {
    if figures.fallbacks.is_empty() {
        return "<div class=\"card\"><p>Nobody: in the last 12 to 24 hours, every handshake was post-quantum, or there was \
                none.</p></div>\n"
            .to_owned();
    }
    let rows = figures.fallbacks.iter().enumerate().map(|(index, found)| {
        let over = match found.over {
            0 => String::new(),
            over => format!("<span class=\"sub\">at most; maybe {} fewer</span>", number(over)),
        };
        vec![
            text(&found.network).into_owned(),
            found.server_name.as_deref().map_or("<span class=\"soft\">no name</span>".into(), text).into_owned(),
            format!("{}{over}", count_figure(&format!("/fallbacks/{index}/count"), found.count)),
            ago(found.last, figures.at),
        ]
    });
    let table = Grid {
        id: "fallbacks-table",
        caption: &format!("The most frequent {FALLBACKS}, by network and server name"),
        columns: &[words("Network"), words("Server name"), numbers("Handshakes"), numbers("Last seen")],
        rows: rows.collect(),
        stacks: true,
    };
    format!(
        "<div class=\"card\">\n<p>Handshakes with a classical group in the last 12 to 24 hours. These clients need a newer \
         version, or something in between takes part in their connections.</p>\n{}</div>\n",
        table.html()
    )
}

fn clients(figures: &Figures) -> String {
    let hellos = figures.clients.hellos;
    if hellos == 0 {
        return "<div class=\"card\"><p>There has been no ClientHello yet.</p></div>\n".to_owned();
    }
    let table = |id: &str, heading: &str, pointer: &str, counts: &[Count]| {
        let rows = counts.iter().enumerate().map(|(index, count)| {
            let fill = if count.post_quantum == Some(true) { POST_QUANTUM } else { CLASSICAL };
            let share = percent(count.count, hellos);
            let bar = chart::partial(count.count, hellos, fill, &share);
            vec![
                format!("{}{}", breakable(&count.name), tag(count.post_quantum == Some(true))),
                count_figure(&format!("/clients/{pointer}/{index}/count"), count.count),
                format!("{share}{bar}"),
            ]
        });
        let table = Grid {
            id,
            caption: &format!("Of {} ClientHellos since the start", number(hellos)),
            columns: &[words(heading), numbers("Offered by"), numbers("Share")],
            rows: rows.collect(),
            stacks: false,
        };
        format!("<div class=\"card\">\n<h3>{heading}s</h3>\n{}</div>\n", table.html())
    };
    format!(
        "<p class=\"intro\">Whether or not it is allowed here: what clients are able to do.</p>\n<div class=\"cards\">\n{}{}</div>\n",
        table("client-groups-table", "Key exchange group", "groups", &figures.clients.groups),
        table("client-schemes-table", "Signature scheme", "schemes", &figures.clients.schemes),
    )
}

/// The name of an algorithm, which a narrow column breaks between its parts.
fn breakable(name: &str) -> String {
    text(name).replace('_', "_<wbr>").replace("MLKEM", "<wbr>MLKEM")
}

/// Marks what is post-quantum in a word.
fn tag(post_quantum: bool) -> &'static str {
    if post_quantum { " <span class=\"tag\">post-quantum</span>" } else { "" }
}

fn certificates(figures: &Figures) -> String {
    let table = Grid {
        id: "certificates-table",
        caption: "Served now; what counts is the first certificate of a chain to expire",
        columns: &[words("Certificate"), words("Key"), words("Expires"), numbers("Chosen")],
        rows: figures.certificates.iter().enumerate().map(|(index, found)| certificate(index, found)).collect(),
        stacks: true,
    };
    format!("<div class=\"card\">\n{}</div>\n", table.html())
}

fn certificate(index: usize, found: &CertificateFigures) -> Vec<String> {
    let days = match found.days_left.unsigned_abs() {
        1 => "1 day".to_owned(),
        days => format!("{} days", number(days)),
    };
    let (class, mark, state) = match found.state {
        CertificateState::Valid => ("good", "✓", format!("{days} left")),
        CertificateState::ExpiresSoon => ("bad", "!", format!("only {days} left")),
        CertificateState::Expired => ("bad", "✗", format!("expired {days} ago")),
        CertificateState::NotYetValid => ("bad", "✗", "not valid yet".to_owned()),
    };
    let names = match found.names.as_slice() {
        [] => "no name".to_owned(),
        names => names.iter().map(|name| text(name)).collect::<Vec<_>>().join(", "),
    };
    vec![
        format!("{}<span class=\"sub\">{names}</span>", text(&found.name)),
        format!("{}{}", text(&found.kind), tag(found.post_quantum)),
        format!(
            "<span class=\"{class}\"><span aria-hidden=\"true\">{mark} </span>{}</span><span class=\"sub\">{}</span>",
            figure(&format!("/certificates/{index}/days_left"), found.days_left, &state),
            moment(found.expires),
        ),
        count_figure(&format!("/certificates/{index}/selected"), found.selected),
    ]
}

fn upstreams(figures: &Figures) -> String {
    if figures.upstreams.is_empty() {
        return "<div class=\"card\"><p>There is none: this server answers by itself.</p></div>\n".to_owned();
    }
    let table = Grid {
        id: "upstreams-table",
        caption: "Down is a server that takes no connections, fails requests or fails its health checks",
        columns: &[
            words("Server"),
            words("State"),
            numbers("Open connections"),
            numbers("Requests"),
            numbers("Errors"),
            numbers("Time to connect"),
        ],
        rows: figures.upstreams.iter().enumerate().map(|(index, found)| upstream(index, found)).collect(),
        stacks: true,
    };
    format!("<div class=\"card\">\n{}</div>\n", table.html())
}

fn upstream(index: usize, found: &UpstreamFigures) -> Vec<String> {
    let (class, mark, state) = if found.up { ("good", "✓", "up") } else { ("bad", "✗", "down") };
    let figure = |name: &str, count| count_figure(&format!("/upstreams/{index}/{name}"), count);
    let held = match found.held_seconds {
        0 => String::new(),
        held => {
            let held = self::figure(&format!("/upstreams/{index}/held_seconds"), held, &format!("{} s", number(held)));
            format!("<span class=\"sub\">kept out for {held}</span>")
        }
    };
    let reasons = found.errors_by_reason.iter();
    let reasons =
        reasons.map(|count| format!("<span class=\"sub\">{} {}</span>", number(count.count), text(&count.name)));
    vec![
        text(&found.name).into_owned(),
        format!("<span class=\"{class}\"><span aria-hidden=\"true\">{mark} </span>{state}</span>{held}"),
        figure("connections", found.connections),
        figure("requests", found.requests),
        format!("{}{}", figure("errors", found.errors), reasons.collect::<String>()),
        found.mean_connect_seconds.map_or("–".to_owned(), short_time),
    ]
}

fn errors(figures: &Figures) -> String {
    let (hour, day) = (&figures.history.hour, &figures.history.day);
    let chart = pair(
        "failures",
        "Failed handshakes over time",
        "Failed handshakes",
        [hour, day],
        |series| {
            let all = [Bars { name: "failed", fill: FAILED, counts: &series.failures }];
            all.into_iter().filter(|bars| bars.counts.iter().any(|count| *count > 0)).collect()
        },
        number,
    );
    format!(
        "<div class=\"cards\">\n<div class=\"card\">\n<h3>Failed handshakes</h3>\n{}<h3>Limits</h3>\n{}\
         <h3>Would be refused by tls.report</h3>\n{}</div>\n{chart}</div>\n",
        counted("failures", "Reason", "Since the start", "None since the start.", &figures.failures),
        limits(&figures.limits),
        counted("report", "Rule", "Since the start", "Nobody, or there is no tls.report.", &figures.report),
    )
}

fn counted(pointer: &str, heading: &str, caption: &str, nothing: &str, counts: &[Count]) -> String {
    if counts.is_empty() {
        return format!("<p class=\"soft\">{nothing}</p>\n");
    }
    let rows = counts.iter().enumerate().map(|(index, count)| {
        vec![text(&count.name).into_owned(), count_figure(&format!("/{pointer}/{index}/count"), count.count)]
    });
    let (id, columns) = (format!("{pointer}-table"), [words(heading), numbers("Count")]);
    Grid { id: &id, caption, columns: &columns, rows: rows.collect(), stacks: false }.html()
}

fn limits(limits: &[LimitFigures]) -> String {
    if limits.is_empty() {
        return "<p class=\"soft\">None is in force, and none was met.</p>\n".to_owned();
    }
    let rows = limits.iter().enumerate().map(|(index, limit)| {
        vec![
            text(&limit.name).into_owned(),
            limit.value.map_or("–".to_owned(), number),
            count_figure(&format!("/limits/{index}/hits"), limit.hits),
            count_figure(&format!("/limits/{index}/refused"), limit.refused),
        ]
    });
    Grid {
        id: "limits-table",
        caption: "In force now; how often each was met since the start",
        columns: &[words("Limit"), numbers("In force"), numbers("Met"), numbers("Refused")],
        rows: rows.collect(),
        stacks: false,
    }
    .html()
}

fn server(figures: &Figures) -> String {
    let Figures { server, process, connections, .. } = figures;
    let reload = match &server.last_reload {
        None => "none since the start".to_owned(),
        Some(last) => {
            let outcome = match &last.refused {
                None => "<span class=\"good\"><span aria-hidden=\"true\">✓ </span>applied</span>".to_owned(),
                Some(why) => format!(
                    "<span class=\"bad\"><span aria-hidden=\"true\">✗ </span>refused; the old state is in force</span>\
                     <span class=\"sub\">{}</span>",
                    text(why)
                ),
            };
            format!("{}, {} {outcome}", escape(&last.trigger), ago(last.at, figures.at))
        }
    };
    let mut html = String::from("<div class=\"card\">\n<dl class=\"rows\">\n");
    let mut row = |name: &str, value: String| {
        let _ = writeln!(html, "<div><dt>{name}</dt><dd>{value}</dd></div>");
    };
    row(
        "Program",
        format!("qtls-server {} ({}), cryptography by {}", server.version, server.flavour, server.crypto_module),
    );
    row("Started", format!("{}, {} ago", moment(server.started), duration(server.uptime)));
    row("Configuration", format!("number {}", number(server.generation)));
    row("Last reload", reload);
    row(
        "Reloads",
        format!(
            "{} applied, {} refused",
            count_figure("/server/reloads_applied", server.reloads_applied),
            count_figure("/server/reloads_refused", server.reloads_refused)
        ),
    );
    row("HSM", figures.hsm.to_owned());
    row(
        "Connections",
        format!(
            "{} accepted, {} closed before a byte, as probes do",
            count_figure("/connections/total", connections.total),
            count_figure("/connections/silent", connections.silent)
        ),
    );
    row(
        "Handshakes",
        format!(
            "{} completed, {} of them resumed, {} after a HelloRetryRequest; {} failed",
            number(figures.handshakes.total),
            count_figure("/handshakes/resumed", figures.handshakes.resumed),
            count_figure("/handshakes/hello_retry", figures.handshakes.hello_retry),
            count_figure("/handshakes/failed", figures.handshakes.failed)
        ),
    );
    row("Processor time", format!("{:.1} s; {} threads", process.cpu_seconds, number(process.threads)));
    row("Memory", format!("{} resident, {} virtual", bytes(process.resident_memory), bytes(process.virtual_memory)));
    row("File descriptors", format!("{} of {}", number(process.open_fds), number(process.max_fds)));
    html.push_str("</dl>\n</div>\n");
    html
}
