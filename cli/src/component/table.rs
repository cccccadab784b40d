//! The flags of a component as a table of text, one line each, from which parsing, help and `docs/flags.md` are made.
//!
//! Never knows what a flag does; the component's own file reads the settings that count.

use anyhow::Context as _;

/// What a value looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Takes {
    /// `true` or `false`; the bare flag means `true`.
    Bool,
    /// A whole number.
    Int,
    /// A number.
    Float,
    /// Any text.
    Text,
    /// Go's way of writing a duration, such as `1h30m`.
    Duration,
    /// An IP address.
    Ip,
    /// Texts with commas between them; each further use of the flag adds to them.
    List,
    /// Texts as they are; each further use of the flag adds one.
    Each,
    /// `key=value` with commas between them.
    Map,
    /// What only the file can say.
    Object,
}

impl Takes {
    const ALL: [(&'static str, Takes); 10] = [
        ("bool", Takes::Bool),
        ("int", Takes::Int),
        ("float", Takes::Float),
        ("text", Takes::Text),
        ("duration", Takes::Duration),
        ("ip", Takes::Ip),
        ("list", Takes::List),
        ("each", Takes::Each),
        ("map", Takes::Map),
        ("object", Takes::Object),
    ];

    /// Its word in the table.
    pub(crate) fn word(self) -> &'static str {
        Self::ALL.iter().find(|(_, takes)| *takes == self).map_or("", |(word, _)| word)
    }
}

/// What becomes of a flag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It means what it means upstream.
    Same,
    /// It is taken, and another value than the default is warned of.
    Ignored,
    /// Another value than the default ends the start: what it asks for would silently be missing.
    Refused,
    /// Upstream has no such flag.
    Own,
}

impl Verdict {
    const ALL: [(&'static str, Verdict); 4] =
        [("same", Verdict::Same), ("ignored", Verdict::Ignored), ("refused", Verdict::Refused), ("own", Verdict::Own)];

    /// Its word in the table.
    pub(crate) fn word(self) -> &'static str {
        Self::ALL.iter().find(|(_, verdict)| *verdict == self).map_or("", |(word, _)| word)
    }
}

/// One flag, or one field of the configuration file that no flag sets.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Line {
    /// Name without dashes; empty when only the file can say it.
    pub(crate) flag: &'static str,
    /// The field of the configuration file, with dots; empty when there is none.
    pub(crate) field: &'static str,
    pub(crate) takes: Takes,
    /// The value without the flag, as the flag would be given.
    pub(crate) default: &'static str,
    pub(crate) verdict: Verdict,
    /// Why it is ignored or refused, or how it differs.
    pub(crate) why: &'static str,
}

impl Line {
    /// What the settings know it by: the flag, or the field where there is none.
    pub(crate) fn key(&self) -> &'static str {
        if self.flag.is_empty() { self.field } else { self.flag }
    }

    /// How messages name it.
    pub(crate) fn shown(&self) -> String {
        if self.flag.is_empty() { self.field.to_owned() } else { format!("--{}", self.flag) }
    }
}

/// A component: a command of `ironkeel` with upstream's flags.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Component {
    /// The command.
    pub(crate) name: &'static str,
    /// Upstream's name of the program.
    pub(crate) upstream: &'static str,
    /// The table: `flag | field | takes | default | verdict | why`.
    pub(crate) table: &'static str,
    /// apiVersions and kind of the file that `--config` names.
    pub(crate) document: Option<(&'static [&'static str], &'static str)>,
    /// Whether the flags that set fields of the file mean nothing beside it.
    pub(crate) file_alone: bool,
}

impl Component {
    /// The lines of the table, in its order.
    ///
    /// # Errors
    /// When a line is not one; a test reads all tables.
    pub(crate) fn lines(&self) -> anyhow::Result<Vec<Line>> {
        let lines = self.table.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        lines.map(|line| parse(line).with_context(|| format!("table of {}: {line:?}", self.name))).collect()
    }
}

fn parse(line: &'static str) -> anyhow::Result<Line> {
    let mut cells = line.splitn(6, '|').map(str::trim);
    let mut cell = || cells.next().context("a cell is missing");
    let (flag, field, takes, default, verdict) = (cell()?, cell()?, cell()?, cell()?, cell()?);
    let why = cells.next().unwrap_or_default();
    let (_, takes) = Takes::ALL.into_iter().find(|(word, _)| *word == takes).context("takes what?")?;
    let (_, verdict) = Verdict::ALL.into_iter().find(|(word, _)| *word == verdict).context("which verdict?")?;
    anyhow::ensure!(!flag.is_empty() || !field.is_empty(), "neither flag nor field");
    anyhow::ensure!(matches!(verdict, Verdict::Same) || !why.is_empty(), "without a reason");
    Ok(Line { flag, field, takes, default, verdict, why })
}
