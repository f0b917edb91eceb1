//! A plan for people, as tables, and for programs.

use comfy_table::{CellAlignment, Table, presets};
use serde_json::{Value, json};

use super::Others;
use super::part::Part;
use super::suggest::grouped;
use crate::sources::answers_at_once;

pub fn as_json(first: &Part, more: &[Part], others: &Others, fits: bool) -> serde_json::Map<String, Value> {
    let mut all = part_json(first);
    all.insert("fits".to_owned(), json!(fits));
    let named = |part: &Part| {
        let mut map = part_json(part);
        map.insert("source".to_owned(), json!(part.source.name()));
        Value::Object(map)
    };
    let more: Vec<Value> = more.iter().map(named).collect();
    all.insert("other_sources".to_owned(), json!(more));
    let others: Vec<Value> =
        others.iter().map(|(place, text, why)| json!({ "place": place, "command": text, "reason": why })).collect();
    all.insert("not_counted".to_owned(), json!(others));
    all
}

fn part_json(part: &Part) -> serde_json::Map<String, Value> {
    let items: Vec<Value> = part
        .lines
        .iter()
        .map(|line| {
            let month = line.cost * line.runs;
            json!({
                "command": line.text,
                "schedule": line.schedule.as_ref().map(|schedule| &schedule.text),
                "runs_per_month": line.runs,
                "calls_per_run": line.cost.calls,
                "credits_per_run": line.cost.credits,
                "calls_per_month": month.calls,
                "credits_per_month": month.credits,
            })
        })
        .collect();
    let value = json!({
        "items": items,
        "assets": part.coins,
        "assets_known": part.coins_known,
        "calls_per_month": part.total.calls,
        "credits_per_month": part.total.credits,
        "used_this_month": part.budget.used,
        "rest_of_month": part.rest,
        "budget": part.budget.limit,
        "budget_from": part.origin.to_string(),
        "resets_at": part.budget.resets_at.to_string(),
        "fits": part.fits,
        "suggestion": part.suggestion,
    });
    match value {
        Value::Object(map) => map,
        _ => serde_json::Map::new(),
    }
}

pub fn as_text(parts: &[Part], others: &Others) -> String {
    let mut out = Vec::new();
    for part in parts {
        let coins = match part.coins_known {
            _ if answers_at_once(part.source) => String::new(),
            true => format!(", {} active coins", grouped(part.coins as i64)),
            false => format!(", {} coins assumed because none are stored", grouped(part.coins as i64)),
        };
        out.push(format!("{} ({}){coins}; a month of 31 days:", part.source.name(), part.kind));
        let mut table = Table::new();
        table.load_style(presets::UTF8_FULL_CONDENSED);
        table.set_header(["when", "command", "runs", "calls a run", "calls", "credits"]);
        for line in &part.lines {
            let month = line.cost * line.runs;
            let when = line.schedule.as_ref().map_or("-", |schedule| schedule.text.as_str());
            let numbers = [line.runs, line.cost.calls, month.calls, month.credits].map(grouped);
            table.add_row([vec![when.to_owned(), line.text.clone()], numbers.to_vec()].concat());
        }
        table.add_row(["", "together", "", "", &grouped(part.total.calls), &grouped(part.total.credits)]);
        for column in 2..6 {
            if let Some(column) = table.column_mut(column) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        out.push(table.to_string());
        out.push(match part.budget.limit {
            None => {
                format!("no limit is known ({}); {} credits used this month", part.origin, grouped(part.budget.used))
            }
            Some(limit) => format!(
                "{}: {} of {} credits a month ({}); {} used this month, which ends {} UTC",
                if part.fits { "it fits" } else { "it does not fit" },
                grouped(part.total.credits),
                grouped(limit),
                part.origin,
                grouped(part.budget.used),
                &part.budget.resets_at.to_string()[..16]
            ),
        });
        out.push(String::new());
    }
    if !others.is_empty() {
        out.push("Not counted:".to_owned());
        out.extend(others.iter().map(|(place, text, why)| format!("  {place}: {text}: {why}")));
    }
    out.join("\n").trim_end().to_owned()
}
