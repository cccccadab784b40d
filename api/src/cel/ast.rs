//! The parsed expression: nodes with ids, and where each of them stands in the source.
//!
//! Macros are expanded here already; nothing is typed or evaluated.

use std::fmt::Write as _;
use std::sync::Arc;

/// Names a node; types and positions are kept by it. Starts at 1.
pub(crate) type Id = u32;

/// Levels of nesting that an expression may have.
pub(crate) const DEEPEST: u32 = 250;

/// A constant as written.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Literal {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Double(f64),
    String(Arc<str>),
    Bytes(Arc<[u8]>),
}

/// A node.
#[derive(Clone, Debug)]
pub(crate) struct Expr {
    pub(crate) id: Id,
    /// Levels below and including this one.
    pub(crate) depth: u32,
    pub(crate) kind: Kind,
}

/// What a node is.
#[derive(Clone, Debug)]
pub(crate) enum Kind {
    /// A mistake that was reported already.
    Error,
    Literal(Literal),
    Ident(String),
    /// `operand.field`, or with `test` `has(operand.field)`.
    Select {
        operand: Box<Expr>,
        field: String,
        test: bool,
    },
    Call {
        target: Option<Box<Expr>>,
        function: String,
        args: Vec<Expr>,
    },
    /// Elements, and whether each was written with `?`.
    List(Vec<(Expr, bool)>),
    Map(Vec<Entry>),
    Struct {
        name: String,
        fields: Vec<Field>,
    },
    Fold(Box<Fold>),
}

/// `key: value` of a map.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) key: Expr,
    pub(crate) value: Expr,
    pub(crate) optional: bool,
}

/// `name: value` of an object.
#[derive(Clone, Debug)]
pub(crate) struct Field {
    pub(crate) id: Id,
    pub(crate) name: String,
    pub(crate) value: Expr,
    pub(crate) optional: bool,
}

/// A comprehension: what all the macros over lists and maps become.
#[derive(Clone, Debug)]
pub(crate) struct Fold {
    pub(crate) range: Expr,
    pub(crate) var: String,
    /// With a second variable, the first is the index or key.
    pub(crate) var2: Option<String>,
    pub(crate) accu: String,
    pub(crate) init: Expr,
    pub(crate) condition: Expr,
    pub(crate) step: Expr,
    pub(crate) result: Expr,
}

/// A source with the positions of its nodes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Source {
    chars: Vec<char>,
    /// Offset by id, counted in characters.
    positions: Vec<u32>,
}

impl Source {
    pub(crate) fn new(text: &str) -> Source {
        Source { chars: text.chars().collect(), positions: vec![0] }
    }

    pub(crate) fn chars(&self) -> &[char] {
        &self.chars
    }

    /// A new id at a position.
    pub(crate) fn id(&mut self, offset: u32) -> Id {
        self.positions.push(offset);
        u32::try_from(self.positions.len() - 1).unwrap_or(0)
    }

    pub(crate) fn position(&self, id: Id) -> u32 {
        self.positions.get(id as usize).copied().unwrap_or_default()
    }

    /// Line from 1 and column from 0.
    pub(crate) fn line_and_column(&self, offset: u32) -> (usize, usize) {
        let before = self.chars.iter().take(offset as usize);
        before.fold((1, 0), |(line, column), c| if *c == '\n' { (line + 1, 0) } else { (line, column + 1) })
    }

    /// A message with its place and the line it is about, in cel-go's form.
    pub(crate) fn show(&self, offset: Option<u32>, message: &str) -> String {
        let Some(offset) = offset else {
            return format!("ERROR: <input>:-1:0: {message}");
        };
        // Of no text there is no line to show, and no first character.
        if self.chars.is_empty() {
            return format!("ERROR: <input>:1:0: {message}");
        }
        let (line, column) = self.line_and_column(offset);
        let mut shown = format!("ERROR: <input>:{line}:{}: {message}", column + 1);
        let text: Vec<char> = self.chars.split(|c| *c == '\n').nth(line - 1).unwrap_or_default().to_vec();
        if text.len() > LONGEST_SNIPPET {
            return shown;
        }
        let snippet: String = text.iter().map(|c| if *c == '\t' { ' ' } else { *c }).collect();
        let dots: String = text.iter().take(column).map(|c| if c.is_ascii() { '.' } else { '\u{ff0e}' }).collect();
        let caret = if text.get(column).is_none_or(char::is_ascii) { '^' } else { '\u{ff3e}' };
        let _ = write!(shown, "\n | {snippet}\n | {dots}{caret}");
        shown
    }
}

/// Characters of a line that is still shown.
const LONGEST_SNIPPET: usize = 16384;

impl Expr {
    /// The nodes right below.
    pub(crate) fn children(&self) -> Vec<&Expr> {
        match &self.kind {
            Kind::Error | Kind::Literal(_) | Kind::Ident(_) => Vec::new(),
            Kind::Select { operand, .. } => vec![operand],
            Kind::Call { target, args, .. } => target.as_deref().into_iter().chain(args).collect(),
            Kind::List(elements) => elements.iter().map(|(element, _)| element).collect(),
            Kind::Map(entries) => entries.iter().flat_map(|entry| [&entry.key, &entry.value]).collect(),
            Kind::Struct { fields, .. } => fields.iter().map(|field| &field.value).collect(),
            Kind::Fold(fold) => vec![&fold.range, &fold.init, &fold.condition, &fold.step, &fold.result],
        }
    }

    pub(crate) fn children_mut(&mut self) -> Vec<&mut Expr> {
        match &mut self.kind {
            Kind::Error | Kind::Literal(_) | Kind::Ident(_) => Vec::new(),
            Kind::Select { operand, .. } => vec![operand],
            Kind::Call { target, args, .. } => target.as_deref_mut().into_iter().chain(args).collect(),
            Kind::List(elements) => elements.iter_mut().map(|(element, _)| element).collect(),
            Kind::Map(entries) => entries.iter_mut().flat_map(|entry| [&mut entry.key, &mut entry.value]).collect(),
            Kind::Struct { fields, .. } => fields.iter_mut().map(|field| &mut field.value).collect(),
            Kind::Fold(fold) => {
                let fold = fold.as_mut();
                vec![&mut fold.range, &mut fold.init, &mut fold.condition, &mut fold.step, &mut fold.result]
            }
        }
    }

    /// `a.b.c` as a name; `None` where something else is in it.
    pub(crate) fn qualified_name(&self) -> Option<String> {
        match &self.kind {
            Kind::Ident(name) => Some(name.clone()),
            Kind::Select { operand, field, test: false } => {
                let mut name = operand.qualified_name()?;
                name.push('.');
                name.push_str(field);
                Some(name)
            }
            _ => None,
        }
    }

    /// A text written as a constant.
    pub(crate) fn text(&self) -> Option<&Arc<str>> {
        match &self.kind {
            Kind::Literal(Literal::String(text)) => Some(text),
            _ => None,
        }
    }
}

/// Collects messages with their places; shown in the order of the source.
#[derive(Debug, Default)]
pub(crate) struct Reports(Vec<(Option<u32>, String)>);

/// More messages than this are counted and not shown.
const MOST_REPORTS: usize = 100;

impl Reports {
    pub(crate) fn at(&mut self, offset: u32, message: impl Into<String>) {
        self.0.push((Some(offset), message.into()));
    }

    pub(crate) fn nowhere(&mut self, message: impl Into<String>) {
        self.0.push((None, message.into()));
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The messages as a client sees them.
    pub(crate) fn shown(mut self, source: &Source) -> Vec<String> {
        self.0.sort_by_key(|(offset, _)| *offset);
        let more = self.0.len().saturating_sub(MOST_REPORTS);
        let mut shown: Vec<String> =
            self.0.iter().take(MOST_REPORTS).map(|(offset, message)| source.show(*offset, message)).collect();
        if more > 0 {
            shown.push(format!("{more} more errors were truncated"));
        }
        shown
    }
}
