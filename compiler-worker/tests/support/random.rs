//! Random programs of the language: well typed, terminating, and as unpleasant as possible otherwise.
//!
//! Every instruction and every way to reach memory occurs: safe, clamped, wild and through pointers that wild stores may have
//! overwritten. The same seed gives the same program.

use std::fmt::Write;

/// A small generator of numbers (xorshift64*).
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.below(items.len() as u64) as usize]
    }
}

/// Type of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ty {
    Int,
    Float,
    Float64,
}

impl Ty {
    fn word(self) -> &'static str {
        match self {
            Self::Int => "int",
            Self::Float => "float",
            Self::Float64 => "float64",
        }
    }
}

const TYPES: [Ty; 3] = [Ty::Int, Ty::Float, Ty::Float64];

/// Items every module declares.
const ITEMS: &str = "int i0 3\nint i1 -7\nint i2\nfloat f0 0.5\nfloat f1 -3.25\nfloat64 d0 1.5f64\nfloat64 d1\n\
int[] ia 8 1 2 3 4 5\nfloat[] fa 8 0.25 0.5 -1.0\nint8[] ba 12 1 -2 3\nint8u[] ua 12 200 100\nint16[] sa 6 -300 300\nint16u[] ta 6 60000\n\
float64[] da 4 0.5f64 2.5f64\nint* pi &ia\nfloat* pf &fa\nfloat64* pd &d0\nint8* pb &ba\nint8u* pu &ua\nint16* ps &sa\nint16u* pt &ta\nint** ppi &pi\nfloat** ppf &pf\nint q &fa\n";

const INT_ITEMS: [&str; 4] = ["i0", "i1", "i2", "q"];
const FLOAT_ITEMS: [&str; 2] = ["f0", "f1"];
const FLOAT64_ITEMS: [&str; 2] = ["d0", "d1"];
const ADDRESSED: [&str; 14] = ["i0", "i1", "i2", "f0", "f1", "d0", "d1", "ia", "fa", "ba", "ua", "sa", "ta", "pi"];
const ARRAYS: [&str; 7] = ["ia", "fa", "ba", "ua", "sa", "ta", "da"];

#[derive(Clone)]
struct Function {
    name: String,
    params: Vec<&'static str>,
    results: Vec<Ty>,
    is_impure: bool,
}

/// What branches can lead out of.
#[derive(Clone, Copy, PartialEq)]
enum Label {
    /// A block or `if` without results: one level.
    Plain,
    /// A block or `if` with results, which nothing branches to: one level.
    Valued,
    /// Two levels.
    Loop,
}

struct Writer<'a> {
    random: &'a mut Random,
    text: String,
    functions: Vec<Function>,
    /// Locals and parameters in scope: name and type.
    locals: Vec<(String, Ty)>,
    /// Pointer locals and parameters: name and pointee.
    pointers: Vec<(String, &'static str)>,
    labels: Vec<Label>,
    /// Names of modules whose items can be named; the first is the current one in a module.
    modules: Vec<String>,
    is_module: bool,
    is_impure: bool,
    results: Vec<Ty>,
    /// Values that lie on the stack below what is being written.
    below: u32,
    /// Lines that may still be written.
    fuel: i32,
}

/// Writes a program.
pub fn program(random: &mut Random) -> String {
    let count = 1 + random.below(3);
    let modules: Vec<String> = (0..count).map(|index| format!("m{index}")).collect();
    let mut functions: Vec<Function> = Vec::new();
    let mut text = String::from("8f4e/v1\n");
    for index in 0..1 + random.below(4) {
        let function = signature(random, index);
        text.push_str(&write_function(random, &functions, &function, &modules));
        functions.push(function);
    }
    text.push_str("function buffer\n#export\nloop 3\ncall main\nloopEnd\nfunctionEnd\nentry main\n");
    for module in &modules {
        text.push_str(&write_module(random, &functions, module, &modules));
    }
    text.push_str("entryEnd\n");
    text
}

fn signature(random: &mut Random, index: u64) -> Function {
    const PARAMS: [&str; 12] =
        ["int", "float", "float64", "int", "float", "int*", "float*", "float64*", "int8*", "int16u*", "int8u*", "int**"];
    let params = (0..random.below(4)).map(|_| *random.pick(&PARAMS)).collect();
    let results = (0..random.below(3)).map(|_| *random.pick(&TYPES)).collect();
    Function { name: format!("fn{index}"), params, results, is_impure: random.chance(75) }
}

fn write_function(random: &mut Random, functions: &[Function], function: &Function, modules: &[String]) -> String {
    let fuel = 20 + random.below(60) as i32;
    let mut writer = Writer {
        random,
        text: String::new(),
        functions: functions.to_vec(),
        locals: Vec::new(),
        pointers: Vec::new(),
        labels: Vec::new(),
        modules: modules.to_vec(),
        is_module: false,
        is_impure: function.is_impure,
        results: function.results.clone(),
        below: 0,
        fuel,
    };
    writer.line(&format!("function {}", function.name));
    if function.is_impure {
        writer.line("#impure");
    }
    for (index, param) in function.params.iter().enumerate() {
        let name = format!("p{index}");
        writer.line(&format!("param {param} {name}"));
        writer.bring(name, param);
    }
    writer.declare_locals();
    writer.statements();
    for ty in function.results.clone() {
        writer.expression(ty, 3);
        writer.below += 1;
    }
    let results: Vec<&str> = function.results.iter().map(|ty| ty.word()).collect();
    writer.line(&format!("functionEnd {}", results.join(" ")));
    writer.text
}

fn write_module(random: &mut Random, functions: &[Function], name: &str, modules: &[String]) -> String {
    let fuel = 60 + random.below(200) as i32;
    let mut writer = Writer {
        random,
        text: String::new(),
        functions: functions.to_vec(),
        locals: Vec::new(),
        pointers: Vec::new(),
        labels: Vec::new(),
        modules: modules.to_vec(),
        is_module: true,
        is_impure: true,
        results: Vec::new(),
        below: 0,
        fuel,
    };
    writer.line(&format!("module {name}"));
    writer.text.push_str(ITEMS);
    writer.declare_locals();
    writer.statements();
    writer.line("moduleEnd");
    writer.text
}

impl Writer<'_> {
    fn line(&mut self, line: &str) {
        self.fuel -= 1;
        let _ = writeln!(self.text, "{line}");
    }

    fn bring(&mut self, name: String, ty: &'static str) {
        match ty {
            "int" => self.locals.push((name, Ty::Int)),
            "float" => self.locals.push((name, Ty::Float)),
            "float64" => self.locals.push((name, Ty::Float64)),
            pointee => self.pointers.push((name, pointee)),
        }
    }

    fn declare_locals(&mut self) {
        for (index, ty) in ["int", "float", "float64", "int"].into_iter().enumerate() {
            self.line(&format!("local {ty} l{index}"));
            self.bring(format!("l{index}"), ty);
        }
        if self.is_impure {
            for (index, ty) in ["int*", "float*", "int8u*"].into_iter().enumerate() {
                self.line(&format!("local {ty} lp{index}"));
                self.bring(format!("lp{index}"), ty);
            }
        }
    }

    // ------------------------------------------------------------------------------------------ statements

    fn statements(&mut self) {
        let count = 2 + self.random.below(5);
        for _ in 0..count {
            if self.fuel > 0 {
                self.statement();
            }
        }
        if self.is_module && self.labels.is_empty() && self.fuel > 0 {
            self.statements();
        }
    }

    fn statement(&mut self) {
        let deep = self.labels.len() > 4;
        match self.random.below(18) {
            0..=2 if self.is_impure => self.store(),
            3 | 4 | 16 if self.is_module => self.store_item(),
            17 if !self.labels.is_empty() => self.branch(),
            5 | 6 => self.set_local(),
            7 if !deep => self.if_statement(),
            8 if !deep => self.loop_statement(),
            9 if !deep => self.block_statement(),
            10 => self.branch(),
            11 if self.is_impure => self.store_bytes(),
            12 if self.is_impure => self.memory_copy(),
            13 => self.call_statement(),
            14 => self.leave(),
            15 if self.is_impure => self.set_pointer(),
            _ => self.set_local(),
        }
    }

    fn store(&mut self) {
        self.address();
        self.below += 1;
        let ty = *self.random.pick(&TYPES);
        self.expression(ty, 3);
        self.below -= 1;
        self.line("store");
    }

    /// Writes one of the few items that everything reads.
    fn store_item(&mut self) {
        let (name, ty) = *self.random.pick(&[
            ("i0", Ty::Int),
            ("i1", Ty::Int),
            ("i2", Ty::Int),
            ("f0", Ty::Float),
            ("f1", Ty::Float),
            ("d0", Ty::Float64),
            ("d0+4", Ty::Int),
        ]);
        self.line(&format!("push &{name}"));
        self.below += 1;
        self.expression(ty, 2);
        self.below -= 1;
        self.line("store");
    }

    /// A condition that depends on what memory and locals hold.
    fn condition(&mut self) {
        if self.random.chance(25) {
            self.expression(Ty::Int, 2);
            return;
        }
        self.leaf(Ty::Int);
        let number = self.random.below(5);
        self.line(&format!("push {number}"));
        let op = *self.random.pick(&["lessThan", "greaterThan", "notEqual", "and"]);
        self.line(op);
    }

    fn set_local(&mut self) {
        let (name, ty) = self.random.pick(&self.locals.clone()).clone();
        self.expression(ty, 3);
        self.line(&format!("localSet {name}"));
    }

    fn set_pointer(&mut self) {
        if self.pointers.is_empty() {
            return;
        }
        let (name, _) = self.random.pick(&self.pointers.clone()).clone();
        self.address();
        self.line(&format!("localSet {name}"));
    }

    fn if_statement(&mut self) {
        self.condition();
        self.line("if");
        self.labels.push(Label::Plain);
        self.statements();
        if self.random.chance(40) {
            self.line("else");
            self.statements();
        }
        self.labels.pop();
        self.line("ifEnd");
    }

    fn loop_statement(&mut self) {
        let cap = self.random.below(5);
        self.line(&format!("loop {cap}"));
        self.labels.push(Label::Loop);
        self.statements();
        self.labels.pop();
        self.line("loopEnd");
    }

    fn block_statement(&mut self) {
        self.line("block");
        self.labels.push(Label::Plain);
        self.statements();
        self.labels.pop();
        self.line("blockEnd");
    }

    /// Branches to a label without values, or not at all.
    fn branch(&mut self) {
        let mut targets = Vec::new();
        let mut depth = 0;
        for label in self.labels.iter().rev() {
            match label {
                Label::Plain => targets.push(depth),
                Label::Loop => targets.extend([depth, depth + 1]),
                Label::Valued => {}
            }
            depth += if *label == Label::Loop { 2 } else { 1 };
        }
        if targets.is_empty() {
            return;
        }
        let target = *self.random.pick(&targets);
        self.condition();
        if self.random.chance(50) {
            self.line(&format!("branchIfTrue {target}"));
        } else {
            self.line("if");
            self.line(&format!("branch {}", target + 1));
            self.line("ifEnd");
        }
    }

    /// Leaves the module or function under a condition.
    fn leave(&mut self) {
        if self.is_module {
            if self.below == 0 && self.random.chance(40) {
                self.condition();
                self.line("exitIfTrue");
            }
            return;
        }
        // `return` empties the analysis stack, so there must be nothing below it.
        if self.below > 0 || self.labels.contains(&Label::Valued) {
            return;
        }
        self.condition();
        self.line("if");
        self.labels.push(Label::Plain);
        for ty in self.results.clone() {
            self.expression(ty, 2);
            self.below += 1;
        }
        self.below -= self.results.len() as u32;
        self.labels.pop();
        self.line("return");
        self.line("ifEnd");
    }

    fn store_bytes(&mut self) {
        let count = 1 + self.random.below(3);
        for _ in 0..count {
            self.expression(Ty::Int, 1);
            self.below += 1;
        }
        self.address();
        self.below -= count as u32;
        self.line(&format!("storeBytes {count}"));
    }

    fn memory_copy(&mut self) {
        self.address();
        self.below += 1;
        self.address();
        self.below -= 1;
        let bytes = *self.random.pick(&[1, 4, 7, 8, 16, 65_530, 70_000]);
        self.line(&format!("memoryCopy {bytes}"));
    }

    /// Pushes arguments and calls; gives the results, which are on the stack then.
    fn call(&mut self, function: &Function) {
        for param in &function.params {
            match *param {
                "int" => self.plain_int(),
                "float" => self.expression(Ty::Float, 2),
                "float64" => self.expression(Ty::Float64, 2),
                pointer => self.pointer(pointer),
            }
            self.below += 1;
        }
        self.below -= function.params.len() as u32;
        self.line(&format!("call {}", function.name));
    }

    /// An integer that cannot be taken for an address.
    fn plain_int(&mut self) {
        self.expression(Ty::Int, 2);
        self.line("push 1");
        self.line("xor");
    }

    /// An address that has exactly this pointer type.
    fn pointer(&mut self, ty: &'static str) {
        let module = self.random.pick(&self.modules).clone();
        let names: &[&str] = match ty {
            "int*" => &["i0", "ia", "i2"],
            "float*" => &["f0", "fa"],
            "float64*" => &["d0", "da"],
            "int8*" => &["ba"],
            "int8u*" => &["ua"],
            "int16u*" => &["ta"],
            _ => &["pi"],
        };
        let same: Vec<String> = self.pointers.iter().filter(|(_, pointee)| *pointee == ty).map(|(name, _)| name.clone()).collect();
        if !same.is_empty() && self.random.chance(50) {
            let name = self.random.pick(&same).clone();
            self.line(&format!("push {name}"));
        } else {
            let name = *self.random.pick(names);
            self.line(&format!("push &{module}:{name}"));
        }
    }

    fn call_statement(&mut self) {
        let callable: Vec<Function> = self.functions.clone();
        if callable.is_empty() {
            return;
        }
        let function = self.random.pick(&callable).clone();
        self.call(&function);
        function.results.iter().for_each(|_| self.line("drop"));
    }

    // ----------------------------------------------------------------------------------------- expressions

    /// Leaves an address on the stack: often inside an item, sometimes anywhere.
    fn address(&mut self) {
        let module = self.random.pick(&self.modules).clone();
        let item = *self.random.pick(&ADDRESSED);
        let array = *self.random.pick(&ARRAYS);
        match self.random.below(9) {
            0..=2 => self.line(&format!("push &{module}:{item}")),
            3 => {
                let offset = self.random.below(6) * 4;
                self.line(&format!("push &{module}:{array}+{offset}"));
            }
            4 => {
                self.line(&format!("push &{module}:{array}"));
                self.below += 1;
                self.expression(Ty::Int, 1);
                self.below -= 1;
                self.line("add");
                if self.random.chance(60) {
                    let width = *self.random.pick(&["", " 1", " 2", " 4", " 8"]);
                    self.line(&format!("clampAddress{width}"));
                }
            }
            5 if self.is_module => {
                self.expression(Ty::Int, 1);
                self.line("clampModuleAddress");
            }
            6 => {
                self.expression(Ty::Int, 1);
                let width = *self.random.pick(&["", " 1", " 8"]);
                self.line(&format!("clampGlobalAddress{width}"));
            }
            7 => {
                let wild = *self.random.pick(&[0i64, 4, 8, 21, 65_532, 65_533, 65_536, -4, 2_147_483_647]);
                self.line(&format!("push {wild}"));
            }
            _ if !self.pointers.is_empty() => {
                let (name, _) = self.random.pick(&self.pointers.clone()).clone();
                self.line(&format!("push {name}"));
            }
            _ => self.expression(Ty::Int, 1),
        }
    }

    fn expression(&mut self, ty: Ty, depth: u32) {
        if depth == 0 || self.fuel < 0 {
            self.leaf(ty);
            return;
        }
        match self.random.below(12) {
            0..=2 => self.leaf(ty),
            3..=6 => self.operator(ty, depth),
            7 => self.conversion(ty, depth),
            8 => self.choice(ty, depth),
            9 if ty != Ty::Float64 => self.valued_if(ty, depth),
            10 => self.called(ty),
            11 if ty != Ty::Float64 => self.valued_block(ty, depth),
            _ => self.read(ty),
        }
    }

    fn leaf(&mut self, ty: Ty) {
        let variables: Vec<String> = self.locals.iter().filter(|(_, other)| *other == ty).map(|(name, _)| name.clone()).collect();
        if !variables.is_empty() && self.random.chance(35) {
            let name = self.random.pick(&variables).clone();
            self.line(&format!("push {name}"));
            return;
        }
        if self.is_module && self.random.chance(75) {
            let name = match ty {
                Ty::Int => *self.random.pick(&INT_ITEMS),
                Ty::Float => *self.random.pick(&FLOAT_ITEMS),
                Ty::Float64 => *self.random.pick(&FLOAT64_ITEMS),
            };
            self.line(&format!("push {name}"));
            return;
        }
        if ty == Ty::Int && self.labels.contains(&Label::Loop) && self.random.chance(30) {
            self.line("loopIndex");
            return;
        }
        let number = match ty {
            Ty::Int => *self.random.pick(&["0", "1", "2", "-1", "7", "31", "255", "-128", "65536", "2147483647", "-2147483648", "12345"]),
            Ty::Float => *self.random.pick(&["0.0", "1.0", "-1.0", "0.5", "3.25", "-2.75", "1000.5", "0.1", "-0.0", "1e20", "4.0"]),
            Ty::Float64 => *self.random.pick(&["0f64", "1f64", "-1.5f64", "0.25f64", "1e10f64", "3f64", "-0.1f64", "8f64"]),
        };
        self.line(&format!("push {number}"));
    }

    fn pair(&mut self, ty: Ty, depth: u32) {
        self.expression(ty, depth - 1);
        self.below += 1;
        self.expression(ty, depth - 1);
        self.below -= 1;
    }

    fn operator(&mut self, ty: Ty, depth: u32) {
        match (ty, self.random.below(5)) {
            (_, 0) => {
                self.pair(ty, depth);
                if self.random.chance(70) {
                    self.line("ensureNonZero");
                } else {
                    let literal = if ty == Ty::Int {
                        "3"
                    } else if ty == Ty::Float {
                        "0.25"
                    } else {
                        "2.5f64"
                    };
                    self.line(&format!("ensureNonZero {literal}"));
                }
                let op = if ty == Ty::Int && self.random.chance(50) { "remainder" } else { "div" };
                self.line(op);
            }
            (Ty::Int, 1) => {
                self.pair(ty, depth);
                let op = *self.random.pick(&["and", "or", "xor", "shiftLeft", "shiftRight", "shiftRightUnsigned"]);
                self.line(op);
            }
            (Ty::Int, 2) => {
                let compared = *self.random.pick(&TYPES);
                self.pair(compared, depth);
                let op = *self.random.pick(&[
                    "equal",
                    "notEqual",
                    "lessThan",
                    "lessOrEqual",
                    "greaterThan",
                    "greaterOrEqual",
                    "greaterOrEqualUnsigned",
                ]);
                self.line(op);
            }
            (_, 3) => {
                self.expression(ty, depth - 1);
                let op = match ty {
                    Ty::Int => *self.random.pick(&["abs", "equalToZero", "notZero"]),
                    Ty::Float => *self.random.pick(&["abs", "round", "sqrt"]),
                    Ty::Float64 => *self.random.pick(&["abs", "sqrt"]),
                };
                self.line(op);
            }
            _ => {
                self.pair(ty, depth);
                let op = *self.random.pick(&["add", "sub", "mul", "min", "max", "add", "mul"]);
                self.line(op);
            }
        }
    }

    fn conversion(&mut self, ty: Ty, depth: u32) {
        let (from, op) = match ty {
            Ty::Int => (*self.random.pick(&[Ty::Float, Ty::Float64]), "castToInt"),
            Ty::Float => (Ty::Int, "castToFloat"),
            Ty::Float64 => (*self.random.pick(&TYPES), "castToFloat64"),
        };
        self.expression(from, depth - 1);
        self.line(op);
    }

    fn choice(&mut self, ty: Ty, depth: u32) {
        let input = *self.random.pick(&TYPES);
        self.expression(input, depth - 1);
        let number = |ty: Ty, value: u64| match ty {
            Ty::Int => format!("{value}"),
            Ty::Float => format!("{value}.5"),
            Ty::Float64 => format!("{value}.5f64"),
        };
        self.line(&format!("mapBegin {}", input.word()));
        for _ in 0..self.random.below(5) {
            let (key, value) = (self.random.below(4), self.random.below(100));
            let line = if self.random.chance(70) {
                format!("map {} {}", number(input, key), number(ty, value))
            } else {
                format!("map {}", number(ty, value))
            };
            self.line(&line);
        }
        if self.random.chance(60) {
            let value = self.random.below(9);
            self.line(&format!("default {}", number(ty, value)));
        }
        self.line(&format!("mapEnd {}", ty.word()));
    }

    fn valued_if(&mut self, ty: Ty, depth: u32) {
        self.condition();
        self.line("if");
        self.labels.push(Label::Valued);
        for part in ["else", "ifEnd"] {
            if self.random.chance(40) {
                self.statement();
            }
            self.expression(ty, depth - 1);
            let end = if part == "ifEnd" { format!("ifEnd {}", ty.word()) } else { part.to_owned() };
            self.line(&end);
        }
        self.labels.pop();
    }

    fn valued_block(&mut self, ty: Ty, depth: u32) {
        self.line("block");
        self.labels.push(Label::Valued);
        if self.random.chance(50) {
            self.statement();
        }
        self.expression(ty, depth - 1);
        self.labels.pop();
        self.line(&format!("blockEnd {}", ty.word()));
    }

    fn called(&mut self, ty: Ty) {
        let callable: Vec<Function> = self.functions.iter().filter(|function| function.results == [ty]).cloned().collect();
        if callable.is_empty() {
            self.leaf(ty);
            return;
        }
        let function = self.random.pick(&callable).clone();
        self.call(&function);
    }

    /// Reads memory through an address or a pointer.
    fn read(&mut self, ty: Ty) {
        if !self.is_impure {
            self.leaf(ty);
            return;
        }
        if ty != Ty::Float64 && self.random.chance(50) {
            self.address();
            let op = if ty == Ty::Float { "loadFloat" } else { *self.random.pick(&["load", "load8s", "load8u", "load16s", "load16u"]) };
            self.line(op);
            return;
        }
        let mut targets: Vec<String> = Vec::new();
        if self.is_module {
            let items: &[&str] = match ty {
                Ty::Int => &["*pi", "*pb", "*pu", "*ps", "*pt", "**ppi", "*ppi", "*ppf"],
                Ty::Float => &["*pf", "**ppf"],
                Ty::Float64 => &["*pd"],
            };
            targets.extend(items.iter().map(|item| (*item).to_owned()));
        }
        for (name, pointee) in &self.pointers {
            let is_fitting = match ty {
                Ty::Float => *pointee == "float*",
                Ty::Float64 => *pointee == "float64*",
                Ty::Int => !matches!(*pointee, "float*" | "float64*"),
            };
            if is_fitting {
                targets.push(format!("*{name}"));
            }
        }
        if targets.is_empty() {
            self.leaf(ty);
            return;
        }
        let target = self.random.pick(&targets).clone();
        self.line(&format!("push {target}"));
    }
}
