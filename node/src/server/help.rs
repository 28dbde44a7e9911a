//! HELP of commands that contain others: from the table of subcommands.

use resp::reply::Writer;

use super::session::Session;
use crate::command::subcommand::SUBCOMMANDS;
use crate::command::{Args, Fail};

pub(crate) fn help(session: &mut Session, args: &Args<'_>, out: &mut Vec<u8>) -> Result<(), Fail> {
    let name = String::from_utf8_lossy(args.at(0)).to_lowercase();
    let is_help = |usage: &str| usage == "HELP";
    let subs = SUBCOMMANDS.iter().filter(|sub| sub.container() == name);
    let (help, others): (Vec<_>, Vec<_>) = subs.partition(|sub| is_help(sub.usage));
    let lines = others
        .iter()
        .chain(&help)
        .flat_map(|sub| [sub.usage.to_owned(), format!("    {}", sub.summary)]);
    let head =
        format!("{} <subcommand> [<arg> [value] [opt] ...]. Subcommands are:", name.to_uppercase());
    let lines: Vec<_> = std::iter::once(head).chain(lines).collect();
    let mut out = Writer::new(out, session.version);
    out.array(lines.len());
    lines.iter().for_each(|line| out.simple(line));
    Ok(())
}
