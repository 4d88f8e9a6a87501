//! The answer for machines. docs/OPERATIONS.md has the table of its members.

use qtls_core::policy::Rule;
use qtls_core::{Error, Result};
use serde_json::{Value, json};

use super::read::Read;
use super::tally::{Broken, Distinct, Rows, Sum, Tally};
use super::tries::Tries;

/// The whole answer, with its line end.
pub(super) fn report(read: &Read, tally: &Tally, tries: &Tries<'_>, notes: &[String]) -> Result<String> {
    let time = |time: Option<_>| time.map(|time: super::line::Time| time.to_string());
    let tried: Vec<_> = tries.names().zip(&tally.broken).map(|(name, broken)| one(name, broken)).collect();
    let report = json!({
        "from": time(tally.first),
        "to": time(tally.last),
        "logs": read.files,
        "connections": tally.connections,
        "post_quantum": tally.post_quantum,
        "bytes": tally.bytes,
        "addresses": distinct(&tally.clients),
        "networks": distinct(&tally.networks),
        "not_completed": tally.failed,
        "unreadable_lines": read.unreadable,
        "cut_off_lines": read.cut_off,
        "notes": notes,
        "tried": tried,
    });
    let text = serde_json::to_string(&report).map_err(|error| Error::internal(error.to_string()))?;
    Ok(format!("{text}\n"))
}

fn one(name: &str, broken: &Broken) -> Value {
    let causes: Vec<_> = broken
        .rows()
        .iter()
        .map(|Rows { cause, sum, rows, others }| {
            let places: Vec<_> = rows
                .iter()
                .map(|(network, server_name, sum)| {
                    json!({
                        "network": network.to_string(),
                        "server_name": server_name,
                        "connections": sum.connections,
                        "bytes": sum.bytes,
                    })
                })
                .collect();
            json!({
                "likely": cause.likely,
                "rules": cause.rules.iter().copied().map(Rule::name).collect::<Vec<_>>(),
                "lacks": cause.lacks,
                "advice": cause.advice,
                "connections": sum.connections,
                "bytes": sum.bytes,
                "places": places,
                "others": sum_of(*others),
            })
        })
        .collect();
    json!({
        "policy": name,
        "connections": broken.connections,
        "bytes": broken.bytes,
        "addresses": distinct(&broken.clients),
        "causes": causes,
        "others": sum_of(broken.others),
    })
}

fn sum_of(Sum { connections, bytes }: Sum) -> Value {
    json!({ "connections": connections, "bytes": bytes })
}

/// How many, and whether that is all of them.
fn distinct<T: Eq + std::hash::Hash>(distinct: &Distinct<T>) -> Value {
    let (count, more) = distinct.count();
    json!({ "count": count, "exact": !more })
}
