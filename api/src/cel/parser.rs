//! From text to a tree, macros expanded.
//!
//! Mistakes are said as cel-go's ANTLR grammar says them, and reading goes on behind them where that is simple. Never
//! looks names up: what is declared is the checker's business.

use super::ast::{DEEPEST, Entry, Expr, Field, Fold, Kind, Literal, Reports, Source};
use super::lexer::{Token, TokenKind, tokens};
use super::macros;

/// What can begin an operand.
const OPERAND: &str = "{'[', '{', '(', '.', '-', '!', 'true', 'false', 'null', NUM_FLOAT, NUM_INT, NUM_UINT, STRING, \
                       BYTES, IDENTIFIER}";

/// Words that are no names.
pub(crate) const RESERVED: &[&str] = &[
    "as",
    "break",
    "const",
    "continue",
    "else",
    "for",
    "function",
    "if",
    "import",
    "in",
    "let",
    "loop",
    "package",
    "namespace",
    "return",
    "var",
    "void",
    "while",
    "true",
    "false",
    "null",
];

/// The most characters of an expression.
pub(crate) const LONGEST: usize = 100_000;

/// Which syntax beyond the standard is on.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Syntax {
    /// `.?`, `[?`, `{?` and the macros of optional values.
    pub(crate) optional: bool,
    /// `cel.bind`.
    pub(crate) bind: bool,
    /// Macros over index or key and value.
    pub(crate) two_variables: bool,
    /// `sortBy`.
    pub(crate) sort_by: bool,
}

/// Reads an expression.
///
/// # Errors
/// The mistakes in cel-go's form.
pub(crate) fn parse(text: &str, syntax: Syntax) -> Result<(Expr, Source), Vec<String>> {
    let mut reports = Reports::default();
    let source = Source::new(text);
    let length = source.chars().len();
    if length > LONGEST {
        reports.nowhere(format!("expression code point size exceeds limit: size: {length}, limit {LONGEST}"));
        return Err(reports.shown(&source));
    }
    let tokens = tokens(source.chars(), &mut reports);
    let mut parser = Parser { tokens, at: 0, source, reports, syntax, depth: 0, recovering: false, too_deep: false };
    let expr = parser.expression();
    parser.end();
    if parser.reports.is_empty() { Ok((expr, parser.source)) } else { Err(parser.reports.shown(&parser.source)) }
}

/// Reads tokens from the front.
pub(crate) struct Parser {
    tokens: Vec<Token>,
    at: usize,
    source: Source,
    reports: Reports,
    pub(crate) syntax: Syntax,
    depth: u32,
    /// After a mistake, until a token fits again: no further complaints.
    recovering: bool,
    too_deep: bool,
}

impl Parser {
    fn kind_at(&self, ahead: usize) -> TokenKind {
        self.tokens.get(self.at + ahead).map_or(TokenKind::End, |token| token.kind)
    }

    fn kind(&self) -> TokenKind {
        self.kind_at(0)
    }

    fn start(&self) -> u32 {
        let token = self.tokens.get(self.at).or(self.tokens.last());
        token.map_or(0, |token| token.start)
    }

    fn text(&self) -> &str {
        self.tokens.get(self.at).map_or("<EOF>", |token| &token.text)
    }

    fn take(&mut self) -> (u32, String) {
        let taken = (self.start(), self.text().to_owned());
        if self.kind() != TokenKind::End {
            self.at += 1;
        }
        self.recovering = false;
        taken
    }

    fn is(&self, operator: &str) -> bool {
        matches!(self.kind(), TokenKind::Op(found) if found == operator)
    }

    fn accept(&mut self, operator: &str) -> Option<u32> {
        self.is(operator).then(|| self.take().0)
    }

    fn complain(&mut self, message: &str) {
        if !self.recovering && !self.too_deep {
            let start = self.start();
            self.reports.at(start, format!("Syntax error: {message}"));
        }
        self.recovering = true;
    }

    pub(crate) fn report(&mut self, offset: u32, message: impl Into<String>) -> Expr {
        self.reports.at(offset, message);
        self.node(offset, Kind::Error)
    }

    pub(crate) fn position(&self, expr: &Expr) -> u32 {
        self.source.position(expr.id)
    }

    /// A node of the source.
    fn node(&mut self, offset: u32, kind: Kind) -> Expr {
        let mut expr = Expr { id: self.source.id(offset), depth: 1, kind };
        expr.depth = 1 + expr.children().iter().map(|child| child.depth).max().unwrap_or(0);
        if expr.depth > DEEPEST {
            self.give_up("max recursion depth exceeded");
            expr.kind = Kind::Error;
            expr.depth = 1;
        }
        expr
    }

    /// A node of a macro.
    pub(crate) fn made(&mut self, offset: u32, kind: Kind) -> Expr {
        self.node(offset, kind)
    }

    /// The same with ids of its own.
    pub(crate) fn copy(&mut self, expr: &Expr) -> Expr {
        let mut copy = expr.clone();
        self.renew(&mut copy);
        copy
    }

    fn renew(&mut self, expr: &mut Expr) {
        expr.id = self.source.id(self.source.position(expr.id));
        for child in expr.children_mut() {
            self.renew(child);
        }
    }

    fn give_up(&mut self, message: &str) {
        if !self.too_deep {
            self.reports.nowhere(message);
        }
        self.too_deep = true;
        self.at = self.tokens.len();
    }

    /// Behind the expression there must be nothing.
    fn end(&mut self) {
        if self.kind() == TokenKind::End {
            return;
        }
        let text = self.text().to_owned();
        if self.kind_at(1) == TokenKind::End {
            self.complain(&format!("extraneous input '{text}' expecting <EOF>"));
        } else {
            self.complain(&format!("mismatched input '{text}' expecting <EOF>"));
        }
    }

    /// The closing token; answers whether it was there.
    fn close(&mut self, operator: &'static str) {
        if self.accept(operator).is_some() {
            return;
        }
        let text = self.text().to_owned();
        if matches!(self.kind_at(1), TokenKind::Op(found) if found == operator) {
            self.complain(&format!("extraneous input '{text}' expecting '{operator}'"));
            self.at += 2;
            self.recovering = false;
        } else if self.kind() == TokenKind::End || self.follows() {
            self.complain(&format!("missing '{operator}' at '{text}'"));
        } else {
            self.complain(&format!("mismatched input '{text}' expecting '{operator}'"));
            self.skip();
        }
    }

    /// The token can stand behind a closed operand.
    fn follows(&self) -> bool {
        matches!(self.kind(), TokenKind::Op(operator) if !matches!(operator, "!" | "{" | "("))
    }

    /// Leaves out tokens up to one behind which reading can go on.
    fn skip(&mut self) {
        while self.kind() != TokenKind::End && !self.follows() {
            self.at += 1;
        }
    }

    fn expression(&mut self) -> Expr {
        self.depth += 1;
        if self.depth > DEEPEST {
            self.give_up(&format!("expression recursion limit exceeded: {DEEPEST}"));
            self.depth -= 1;
            let start = self.start();
            return self.node(start, Kind::Error);
        }
        let condition = self.binary(0);
        let expr = match self.accept("?") {
            None => condition,
            Some(offset) => {
                let yes = self.binary(0);
                if self.accept(":").is_none() {
                    let text = self.text().to_owned();
                    self.complain(&format!("mismatched input '{text}' expecting ':'"));
                }
                let no = self.expression();
                self.call(offset, "_?_:_", vec![condition, yes, no])
            }
        };
        self.depth -= 1;
        expr
    }

    fn call(&mut self, offset: u32, function: &str, args: Vec<Expr>) -> Expr {
        self.node(offset, Kind::Call { target: None, function: function.to_owned(), args })
    }

    /// Operators of at least this rank.
    fn binary(&mut self, rank: u8) -> Expr {
        if rank == 5 {
            return self.unary();
        }
        let mut left = self.binary_operand(rank);
        if rank < 2 {
            return self.logic(rank, left);
        }
        loop {
            let TokenKind::Op(operator) = self.kind() else { return left };
            let function = match (rank, operator) {
                (2, "<") => "_<_",
                (2, "<=") => "_<=_",
                (2, ">") => "_>_",
                (2, ">=") => "_>=_",
                (2, "==") => "_==_",
                (2, "!=") => "_!=_",
                (2, "in") => "@in",
                (3, "+") => "_+_",
                (3, "-") => "_-_",
                (4, "*") => "_*_",
                (4, "/") => "_/_",
                (4, "%") => "_%_",
                _ => return left,
            };
            let (offset, _) = self.take();
            let right = self.binary_operand(rank);
            left = self.call(offset, function, vec![left, right]);
        }
    }

    fn binary_operand(&mut self, rank: u8) -> Expr {
        self.binary(rank + 1)
    }

    /// `||` and `&&`: a balanced tree, so that long chains are not deep.
    fn logic(&mut self, rank: u8, first: Expr) -> Expr {
        let (operator, function) = if rank == 0 { ("||", "_||_") } else { ("&&", "_&&_") };
        let mut terms = vec![first];
        let mut offsets = Vec::new();
        while let Some(offset) = self.accept(operator) {
            offsets.push(offset);
            terms.push(self.binary_operand(rank));
        }
        self.balanced(function, terms, &offsets)
    }

    fn balanced(&mut self, function: &str, mut terms: Vec<Expr>, offsets: &[u32]) -> Expr {
        if terms.len() < 2 {
            let start = self.start();
            return terms.pop().unwrap_or_else(|| self.node(start, Kind::Error));
        }
        let middle = terms.len().div_ceil(2);
        let right = terms.split_off(middle);
        let offset = offsets.get(middle - 1).copied().unwrap_or_default();
        let left = self.balanced(function, terms, offsets.get(..middle - 1).unwrap_or_default());
        let right = self.balanced(function, right, offsets.get(middle..).unwrap_or_default());
        self.call(offset, function, vec![left, right])
    }

    fn unary(&mut self) -> Expr {
        for (operator, function) in [("!", "!_"), ("-", "-_")] {
            if !self.is(operator) {
                continue;
            }
            // One minus before a number belongs to it.
            if operator == "-" && matches!(self.kind_at(1), TokenKind::Int | TokenKind::Float) {
                break;
            }
            let offset = self.start();
            let mut times = 0;
            while self.accept(operator).is_some() {
                times += 1;
            }
            let operand = self.member();
            return if times % 2 == 0 { operand } else { self.call(offset, function, vec![operand]) };
        }
        self.member()
    }

    fn member(&mut self) -> Expr {
        let mut operand = self.primary();
        loop {
            if self.is(".") {
                operand = self.selection(operand);
            } else if let Some(offset) = self.accept("[") {
                let optional = self.accept("?").is_some();
                let index = self.expression();
                self.close("]");
                if optional && !self.syntax.optional {
                    return self.report(offset, "unsupported syntax '[?'");
                }
                operand = self.call(offset, if optional { "_[?_]" } else { "_[_]" }, vec![operand, index]);
            } else {
                return operand;
            }
        }
    }

    /// `.name`, `.?name` or `.name(...)`.
    fn selection(&mut self, operand: Expr) -> Expr {
        let named = |kind| matches!(kind, TokenKind::Ident | TokenKind::EscapedIdent);
        let optional = matches!(self.kind_at(1), TokenKind::Op("?"));
        let name = self.kind_at(1 + usize::from(optional));
        if !named(name) {
            let dot = self.start();
            let wrong = self.tokens.get(self.at + 1 + usize::from(optional)).map_or("", |token| &token.text).to_owned();
            self.at += 1 + usize::from(optional);
            let said = match name {
                TokenKind::True | TokenKind::False | TokenKind::Null => {
                    format!("mismatched input '{wrong}' expecting IDENTIFIER")
                }
                TokenKind::End => "no viable alternative at input '.'".to_owned(),
                _ => format!("no viable alternative at input '.{wrong}'"),
            };
            self.complain(&said);
            if name != TokenKind::End {
                self.at += 1;
            }
            return self.node(dot, Kind::Error);
        }
        let (dot, _) = self.take();
        let _ = self.accept("?");
        let escaped = self.kind() == TokenKind::EscapedIdent;
        let (start, text) = self.take();
        let field = if escaped { text.trim_matches('`').to_owned() } else { text };
        if optional {
            if !self.syntax.optional {
                return self.report(dot, "unsupported syntax '.?'");
            }
            let name = self.node(start, Kind::Literal(Literal::String(field.into())));
            return self.call(dot, "_?._", vec![operand, name]);
        }
        if escaped || !self.is("(") {
            if escaped {
                // Kubernetes leaves this syntax off.
                self.reports.at(start, "unsupported syntax: '`'");
            }
            return self.node(dot, Kind::Select { operand: Box::new(operand), field, test: false });
        }
        let (open, _) = self.take();
        let args = self.arguments();
        match macros::receiver(self, open, &field, operand, args) {
            Ok(expanded) => expanded,
            Err((operand, args)) => {
                let target = Some(Box::new(operand));
                self.node(open, Kind::Call { target, function: field, args })
            }
        }
    }

    /// Arguments and the closing parenthesis.
    fn arguments(&mut self) -> Vec<Expr> {
        let mut args = Vec::new();
        if self.is(")") {
            self.close(")");
            return args;
        }
        loop {
            args.push(self.expression());
            if self.accept(",").is_none() {
                break;
            }
        }
        self.close(")");
        args
    }

    fn primary(&mut self) -> Expr {
        let start = self.start();
        match self.kind() {
            TokenKind::Op("(") => {
                self.take();
                let inner = self.expression();
                self.close(")");
                inner
            }
            TokenKind::Op("[") => self.list(),
            TokenKind::Op("{") => self.map(),
            TokenKind::Op("-") => {
                self.take();
                self.number(start, true)
            }
            TokenKind::Op(".") if self.kind_at(1) == TokenKind::Ident => {
                self.take();
                self.name(".")
            }
            TokenKind::Ident => self.name(""),
            TokenKind::Int | TokenKind::Uint | TokenKind::Float => self.number(start, false),
            TokenKind::True | TokenKind::False => {
                let literal = Literal::Bool(self.kind() == TokenKind::True);
                self.take();
                self.node(start, Kind::Literal(literal))
            }
            TokenKind::Null => {
                self.take();
                self.node(start, Kind::Literal(Literal::Null))
            }
            TokenKind::String => {
                let (_, text) = self.take();
                match unescape(&text, false) {
                    Ok(bytes) => {
                        let text = String::from_utf8_lossy(&bytes).into_owned();
                        self.node(start, Kind::Literal(Literal::String(text.into())))
                    }
                    Err(message) => self.report(start, message),
                }
            }
            TokenKind::Bytes => {
                let (_, text) = self.take();
                match unescape(text.get(1..).unwrap_or_default(), true) {
                    Ok(bytes) => self.node(start, Kind::Literal(Literal::Bytes(bytes.into()))),
                    Err(message) => self.report(start, message),
                }
            }
            TokenKind::Op(_) | TokenKind::EscapedIdent | TokenKind::End => self.no_operand(start),
        }
    }

    fn no_operand(&mut self, start: u32) -> Expr {
        let text = self.text().to_owned();
        let next = match self.kind_at(1) {
            TokenKind::Op(operator) => matches!(operator, "[" | "{" | "(" | "." | "-" | "!"),
            TokenKind::End | TokenKind::EscapedIdent => false,
            _ => true,
        };
        if next && self.kind() != TokenKind::End && !self.recovering {
            self.complain(&format!("extraneous input '{text}' expecting {OPERAND}"));
            self.at += 1;
            return self.primary();
        }
        self.complain(&format!("mismatched input '{text}' expecting {OPERAND}"));
        self.skip();
        self.node(start, Kind::Error)
    }

    fn number(&mut self, start: u32, negative: bool) -> Expr {
        let kind = self.kind();
        let (_, text) = self.take();
        let sign = if negative { "-" } else { "" };
        let literal = match kind {
            TokenKind::Int => {
                let value = match text.strip_prefix("0x") {
                    Some(hex) => i64::from_str_radix(&format!("{sign}{hex}"), 16),
                    None => format!("{sign}{text}").parse(),
                };
                value.map(Literal::Int).map_err(|_| "invalid int literal")
            }
            TokenKind::Uint => {
                let digits = text.trim_end_matches(['u', 'U']);
                let value = match digits.strip_prefix("0x") {
                    Some(hex) => u64::from_str_radix(hex, 16),
                    None => digits.parse(),
                };
                value.map(Literal::Uint).map_err(|_| "invalid uint literal")
            }
            _ => match format!("{sign}{text}").parse::<f64>() {
                Ok(value) if value.is_finite() => Ok(Literal::Double(value)),
                _ => Err("invalid double literal"),
            },
        };
        match literal {
            Ok(literal) => self.node(start, Kind::Literal(literal)),
            Err(message) => self.report(start, message),
        }
    }

    /// A name, a call, or an object of a named type.
    fn name(&mut self, dot: &str) -> Expr {
        if let Some(expr) = self.object(dot) {
            return expr;
        }
        let (start, text) = self.take();
        if RESERVED.contains(&text.as_str()) {
            if self.accept("(").is_some() {
                self.arguments();
            }
            return self.report(start, format!("reserved identifier: {text}"));
        }
        let name = format!("{dot}{text}");
        let Some(open) = self.accept("(") else {
            return self.node(start, Kind::Ident(name));
        };
        let args = self.arguments();
        match macros::global(self, open, &name, args) {
            Ok(expanded) => expanded,
            Err(args) => self.node(open, Kind::Call { target: None, function: name, args }),
        }
    }

    /// `a.b.C{field: value}`.
    fn object(&mut self, dot: &str) -> Option<Expr> {
        let mut ahead = 1;
        while matches!(self.kind_at(ahead), TokenKind::Op(".")) && self.kind_at(ahead + 1) == TokenKind::Ident {
            ahead += 2;
        }
        if !matches!(self.kind_at(ahead), TokenKind::Op("{")) {
            return None;
        }
        let mut name = dot.to_owned();
        for _ in 0..ahead {
            name.push_str(&self.take().1);
        }
        let (open, _) = self.take();
        let mut fields = Vec::new();
        while !self.is("}") && !self.is(",") && self.kind() != TokenKind::End {
            let mark = self.start();
            let optional = self.accept("?").is_some();
            if optional && !self.syntax.optional {
                self.reports.at(mark, "unsupported syntax '?'");
            }
            if self.kind() != TokenKind::Ident {
                let text = self.text().to_owned();
                self.complain(&format!(
                    "mismatched input '{text}' expecting {{'}}', ',', '?', IDENTIFIER, ESC_IDENTIFIER}}"
                ));
                self.skip();
                break;
            }
            let (_, field) = self.take();
            let Some(colon) = self.colon() else { break };
            let value = self.expression();
            let id = self.source.id(colon);
            fields.push(Field { id, name: field, value, optional });
            if self.accept(",").is_none() {
                break;
            }
        }
        let _ = self.accept(",");
        self.close_collection("}");
        Some(self.node(open, Kind::Struct { name, fields }))
    }

    fn colon(&mut self) -> Option<u32> {
        let colon = self.accept(":");
        if colon.is_none() {
            let text = self.text().to_owned();
            self.complain(&format!("mismatched input '{text}' expecting ':'"));
            self.skip();
        }
        colon
    }

    /// The end of a list, map or object, where a comma could also stand.
    fn close_collection(&mut self, operator: &'static str) {
        if self.accept(operator).is_some() {
            return;
        }
        let text = self.text().to_owned();
        self.complain(&format!("mismatched input '{text}' expecting {{'{operator}', ','}}"));
        self.skip();
    }

    fn optional_mark(&mut self) -> bool {
        let mark = self.start();
        let optional = self.accept("?").is_some();
        if optional && !self.syntax.optional {
            self.reports.at(mark, "unsupported syntax '?'");
        }
        optional
    }

    fn list(&mut self) -> Expr {
        let (open, _) = self.take();
        let mut elements = Vec::new();
        while !self.is("]") && !self.is(",") {
            let optional = self.optional_mark();
            elements.push((self.expression(), optional));
            if self.accept(",").is_none() {
                break;
            }
        }
        let _ = self.accept(",");
        self.close_collection("]");
        self.node(open, Kind::List(elements))
    }

    fn map(&mut self) -> Expr {
        let (open, _) = self.take();
        let mut entries = Vec::new();
        while !self.is("}") && !self.is(",") {
            let optional = self.optional_mark();
            let key = self.expression();
            let Some(_) = self.colon() else { break };
            let value = self.expression();
            entries.push(Entry { key, value, optional });
            if self.accept(",").is_none() {
                break;
            }
        }
        let _ = self.accept(",");
        self.close_collection("}");
        self.node(open, Kind::Map(entries))
    }

    /// A comprehension of a macro.
    pub(crate) fn fold(&mut self, offset: u32, fold: Fold) -> Expr {
        self.node(offset, Kind::Fold(Box::new(fold)))
    }
}

/// The value of a string with its quotes and prefix.
fn unescape(text: &str, bytes: bool) -> Result<Vec<u8>, String> {
    let raw = text.starts_with(['r', 'R']);
    let text = text.trim_start_matches(['r', 'R']).replace("\r\n", "\n").replace('\r', "\n");
    let triple = text.len() >= 6 && (text.starts_with("\"\"\"") || text.starts_with("'''"));
    let quotes = if triple { 3 } else { 1 };
    let inner = text.get(quotes..text.len().saturating_sub(quotes)).unwrap_or_default();
    if raw {
        return Ok(inner.as_bytes().to_vec());
    }
    let mut value = Vec::new();
    let mut chars = inner.chars();
    let push = |value: &mut Vec<u8>, c: char| value.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
    while let Some(c) = chars.next() {
        if c != '\\' {
            push(&mut value, c);
            continue;
        }
        let wrong = || "unable to unescape string".to_owned();
        let escaped = chars.next().ok_or_else(wrong)?;
        let mut number = |first: u32, radix: u32, digits: usize| {
            (0..digits).try_fold(first, |sum, _| Some(sum * radix + chars.next()?.to_digit(radix)?))
        };
        let point = match escaped {
            'a' => 7,
            'b' => 8,
            'f' => 12,
            'n' => 10,
            'r' => 13,
            't' => 9,
            'v' => 11,
            '\\' | '\'' | '"' | '`' | '?' => escaped as u32,
            'x' | 'X' => number(0, 16, 2).ok_or_else(wrong)?,
            'u' if !bytes => number(0, 16, 4).ok_or_else(wrong)?,
            'U' if !bytes => number(0, 16, 8).ok_or_else(wrong)?,
            '0'..='3' => number(escaped as u32 - u32::from(b'0'), 8, 2)
                .ok_or_else(|| "unable to unescape octal sequence in string".to_owned())?,
            _ => return Err(wrong()),
        };
        match (bytes, u8::try_from(point)) {
            (true, Ok(byte)) => value.push(byte),
            _ => push(&mut value, char::from_u32(point).ok_or_else(|| "invalid unicode code point".to_owned())?),
        }
    }
    Ok(value)
}
