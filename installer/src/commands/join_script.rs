//! `installer join-script`: asks the daemon for a token, and prints the script that carries it.

mod script;
mod span;

use std::path::Path;

use api::join::Role;
use api::join::ScriptParts;
use api::join::ScriptWish;
use api::join::TokenLine;
use program::Outcome;
use program::Output;
use serde::Serialize;

pub(crate) use span::parse_span_s;

use crate::cli::JoinScriptArgs;
use crate::tools::control;

/// What a program gets.
#[derive(Serialize)]
struct Printed<'a> {
    token_id: &'a str,
    role: Role,
    expires_at: String,
    script: &'a str,
}

pub(super) fn run(arguments: &JoinScriptArgs, output: &Output) -> Outcome {
    let socket = &arguments.control;
    if arguments.list {
        return list(socket, output);
    }
    if let Some(id) = &arguments.revoke {
        control::order(socket, "DELETE", &format!("/v1/join/tokens/{id}"))?;
        return output.result(&serde_json::json!({ "revoked": id }), |lines| {
            lines.line(format!(
                "{id} is revoked: its script opens nothing any more, within 15 s on all masters."
            ));
        });
    }
    let role = if arguments.master {
        Role::Master
    } else {
        Role::Worker
    };
    print(socket, role, arguments.ttl, output)
}

fn print(socket: &Path, role: Role, ttl_s: u64, output: &Output) -> Outcome {
    let wish = ScriptWish { role, ttl_s };
    let parts: ScriptParts = control::ask(socket, "POST", "/v1/join/script", Some(&wish))?;
    let text = script::render(&parts);
    let request = &parts.request;
    let what = word(role);
    output.note(format!(
        "Paste this as root on each new {what}. It works until {}, for as many machines as you like.",
        request.expires_at
    ));
    output.note(format!(
        "Take it back before:  installer join-script --revoke {}",
        parts.token_id
    ));
    let printed = Printed {
        token_id: &parts.token_id,
        role,
        expires_at: request.expires_at.to_string(),
        script: &text,
    };
    output.result(&printed, |lines| {
        for line in text.lines() {
            lines.line(line);
        }
    })
}

fn list(socket: &Path, output: &Output) -> Outcome {
    let tokens: Vec<TokenLine> = control::ask(socket, "GET", "/v1/join/tokens", None::<&()>)?;
    output.result(&tokens, |lines| {
        if tokens.is_empty() {
            lines.line("No join script is open.");
        }
        for token in &tokens {
            lines.line(format!(
                "{}  {}  made {}  ends {}",
                token.id,
                word(token.role),
                token.made_at,
                token.expires_at
            ));
        }
    })
}

const fn word(role: Role) -> &'static str {
    match role {
        Role::Master => "master",
        Role::Worker => "worker",
    }
}
