//! Debian's package lists: real text in real sizes, on every Debian machine.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

/// Where apt keeps its lists, and dpkg what is installed.
const LISTS: &str = "/var/lib/apt/lists";
const INSTALLED: &str = "/var/lib/dpkg/status";

/// A package: its fields in the order of its stanza.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Package {
    /// The fields, `Package` among them.
    pub fields: Vec<(String, String)>,
}

impl Package {
    /// A field by name.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// Its name.
    pub fn name(&self) -> &str {
        self.get("Package").unwrap_or_default()
    }

    /// The names it depends on.
    pub fn depends(&self) -> Vec<&str> {
        let all = ["Depends", "Pre-Depends"].into_iter().filter_map(|field| self.get(field));
        let names = all.flat_map(|list| list.split([',', '|'])).map(|alternative| {
            alternative.trim().split([' ', '(', ':']).next().unwrap_or_default()
        });
        let mut names: Vec<_> = names.filter(|name| !name.is_empty()).collect();
        names.sort_unstable();
        names.dedup();
        names
    }
}

/// All packages of apt's lists, or of dpkg's status where there are none; each name once. Says
/// where they came from.
pub fn read() -> Result<(Vec<Package>, String)> {
    let lists = lists()?;
    let mut packages = Vec::new();
    for list in &lists {
        packages.extend(parse(&text_of(list)?));
    }
    let mut from = format!("{} of apt's package lists in {LISTS}", lists.len());
    if packages.is_empty() {
        packages = parse(&fs::read_to_string(INSTALLED).context("this is no Debian machine")?);
        from = format!("{INSTALLED} (apt keeps no lists here)");
    }
    packages.retain(|p| !p.name().is_empty());
    packages.sort_by(|a, b| a.name().cmp(b.name()));
    packages.dedup_by(|a, b| a.name() == b.name());
    if packages.is_empty() {
        bail!("found no packages in {LISTS} or {INSTALLED}: run `apt-get update`");
    }
    Ok((packages, from))
}

fn lists() -> Result<Vec<PathBuf>> {
    let Ok(entries) = fs::read_dir(LISTS) else { return Ok(Vec::new()) };
    let mut lists = Vec::new();
    for entry in entries {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.contains("_Packages") && !name.ends_with(".diff_Index") {
            lists.push(path);
        }
    }
    lists.sort();
    Ok(lists)
}

/// A list's text; apt keeps them plain or in any compression that it knows.
fn text_of(list: &Path) -> Result<String> {
    let plain = list.to_string_lossy().ends_with("_Packages");
    let bytes = if plain {
        fs::read(list).with_context(|| format!("cannot read {}", list.display()))?
    } else {
        let mut helper = Command::new("/usr/lib/apt/apt-helper");
        let out = helper.arg("cat-file").arg(list).output().context("cannot run apt-helper")?;
        if !out.status.success() {
            bail!("apt-helper cannot read {}", list.display());
        }
        out.stdout
    };
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The stanzas of a list: `Field: value`, lines that begin with a space go on with the value.
pub fn parse(text: &str) -> Vec<Package> {
    let mut packages = Vec::new();
    let mut fields: Vec<(String, String)> = Vec::new();
    for line in text.lines().chain([""]) {
        if line.is_empty() {
            if !fields.is_empty() {
                packages.push(Package { fields: std::mem::take(&mut fields) });
            }
        } else if line.starts_with([' ', '\t']) {
            if let Some((_, value)) = fields.last_mut() {
                value.push('\n');
                value.push_str(line.trim());
            }
        } else if let Some((field, value)) = line.split_once(':') {
            fields.push((field.to_owned(), value.trim().to_owned()));
        }
    }
    packages
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stanza_reads_back_with_its_continued_lines_and_dependencies() {
        let text = "Package: vim\nDepends: vim-common (= 2:9), libacl1 (>= 2.2) | libc6:any\nDescription: Vi\n IMproved\n\nPackage: nano\n";
        let packages = parse(text);
        assert_eq!(packages.len(), 2);
        assert_eq!(packages[0].get("Description"), Some("Vi\nIMproved"));
        assert_eq!(packages[0].depends(), ["libacl1", "libc6", "vim-common"]);
        assert_eq!(packages[1].name(), "nano");
    }
}
