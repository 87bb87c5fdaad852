//! A second, independent way from stack code to WebAssembly: the plain lowering of LANGUAGE §15, byte for byte.
//!
//! It knows no middle, no values and no passes, so what it emits is an oracle for those; and as the language records hashes of its
//! output, it checks the analysis in front of it as well. Test code only.

use std::collections::HashMap;

use compiler_worker::languages::lang_8f4e::analysis::code::{Callee, Code, StackOp};
use compiler_worker::languages::lang_8f4e::analysis::{Bodies, analyse};
use compiler_worker::languages::lang_8f4e::functions::{Functions, Signature};
use compiler_worker::languages::lang_8f4e::program::Program;
use compiler_worker::languages::lang_8f4e::{FrontOptions, resolve};
use compiler_worker::middle::operators::{Const, Load, Store, Type, Unary};

/// Compiles a text to the plain binary; `None` if it is refused.
pub fn compile(source: &str, memory_regions: &[String]) -> Option<Vec<u8>> {
    let options = FrontOptions { memory_regions: memory_regions.to_vec(), environment: Vec::new() };
    let program = resolve(source.as_bytes(), &options).ok()?;
    let functions = Functions::of(&program).ok()?;
    let bodies = analyse(&program, &functions).ok()?;
    Some(Lowering::new(&program, &functions).module(&bodies))
}

struct Lowering<'a> {
    program: &'a Program,
    functions: &'a Functions,
    /// Types from index 3 on.
    types: Vec<Vec<u8>>,
    imported: u32,
    /// What the callees in the code of a body count from.
    family: usize,
}

fn unsigned(mut value: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let byte = (value & 0x7f) as u8;
        value >>= 7;
        if value == 0 {
            bytes.push(byte);
            return bytes;
        }
        bytes.push(byte | 0x80);
    }
}

fn signed(mut value: i32) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let byte = (value & 0x7f) as u8;
        value >>= 7;
        let is_last = (value == 0 && byte & 0x40 == 0) || (value == -1 && byte & 0x40 != 0);
        if is_last {
            bytes.push(byte);
            return bytes;
        }
        bytes.push(byte | 0x80);
    }
}

fn string(text: &str) -> Vec<u8> {
    let units: Vec<u16> = text.encode_utf16().collect();
    let mut bytes = unsigned(units.len() as u32);
    bytes.extend(units.iter().map(|&unit| unit as u8));
    bytes
}

fn type_byte(ty: Type) -> u8 {
    match ty {
        Type::I32 => 0x7f,
        Type::F32 => 0x7d,
        Type::F64 => 0x7c,
    }
}

fn section(id: u8, items: &[Vec<u8>]) -> Vec<u8> {
    let mut content = unsigned(items.len() as u32);
    content.extend(items.concat());
    framed(id, content)
}

fn framed(id: u8, content: Vec<u8>) -> Vec<u8> {
    let mut bytes = vec![id];
    bytes.extend(unsigned(content.len() as u32));
    bytes.extend(content);
    bytes
}

impl<'a> Lowering<'a> {
    fn new(program: &'a Program, functions: &'a Functions) -> Self {
        let imported = functions.signatures.iter().filter(|signature| signature.import.is_some()).count() as u32;
        Self { program, functions, types: Vec::new(), imported, family: 0 }
    }

    fn type_index(&mut self, params: &[Type], results: &[Type]) -> u32 {
        let mut bytes = vec![0x60];
        for types in [params, results] {
            bytes.extend(unsigned(types.len() as u32));
            bytes.extend(types.iter().map(|&ty| type_byte(ty)));
        }
        let known = self.types.iter().position(|ty| *ty == bytes);
        let index = known.unwrap_or_else(|| {
            self.types.push(bytes);
            self.types.len() - 1
        });
        index as u32 + 3
    }

    fn signature_type(&mut self, signature: &Signature) -> u32 {
        let params: Vec<Type> = signature.params.iter().map(|param| param.ty.ty()).collect();
        let results: Vec<Type> = signature.results.iter().map(|ty| ty.ty()).collect();
        self.type_index(&params, &results)
    }

    /// Index of a function in the binary.
    fn callee(&self, callee: Callee) -> u32 {
        let entries = self.program.entries.len() as u32;
        match callee {
            Callee::Entry(entry) => self.imported + 1 + entry as u32,
            Callee::Function(function) => {
                let function = self.family + function;
                let signatures = &self.functions.signatures;
                let is_import = |index: usize| signatures[index].import.is_some();
                let before = (0..function).filter(|&other| is_import(other) == is_import(function)).count() as u32;
                if is_import(function) { before } else { self.imported + 1 + entries + before }
            }
        }
    }

    fn module(mut self, bodies: &Bodies) -> Vec<u8> {
        let mut function_types = vec![0u32; 1 + self.program.entries.len()];
        let mut codes = vec![self.init_defaults()];
        codes.extend(self.dispatchers());
        let mut imports: Vec<Vec<u8>> = Vec::new();
        let signatures: Vec<Signature> = self.functions.signatures.iter().map(|signature| Signature::clone(signature)).collect();
        let program = self.program;
        for ((signature, body), function) in signatures.iter().zip(&bodies.functions).zip(&program.functions) {
            self.family = function.library.map_or(0, |place| place.family);
            match body {
                Some(code) => {
                    let body = self.body(code);
                    let ty = self.signature_type(signature);
                    function_types.push(ty);
                    codes.push(body);
                }
                None => {
                    let ty = self.signature_type(signature);
                    let field = signature.import.as_deref().unwrap_or_default();
                    imports.push([string("host"), string(field), vec![0], unsigned(ty)].concat());
                }
            }
        }
        self.family = 0;
        for code in &bodies.modules {
            function_types.push(0);
            codes.push(self.body(code));
        }
        self.assemble(imports, &function_types, &codes)
    }

    fn assemble(&self, mut imports: Vec<Vec<u8>>, function_types: &[u32], codes: &[Vec<u8>]) -> Vec<u8> {
        let mut types = vec![vec![0x60, 0, 0], vec![0x60, 1, 0x7f, 1, 0x7f], vec![0x60, 2, 0x7f, 0x7f, 1, 0x7f]];
        types.extend(self.types.iter().cloned());
        for memory in &self.program.memories {
            let pages = unsigned((memory.required_bytes.div_ceil(65_536)).max(1) as u32);
            imports.push([string("host"), string(&memory.name), vec![2, 1], pages.clone(), pages].concat());
        }
        let indices: Vec<Vec<u8>> = function_types.iter().map(|&ty| vec![ty as u8]).collect();
        let with_length = |body: &Vec<u8>| [unsigned(body.len() as u32), body.clone()].concat();
        let codes: Vec<Vec<u8>> = codes.iter().map(with_length).collect();
        let mut bytes = b"\0asm\x01\0\0\0".to_vec();
        bytes.extend(section(1, &types));
        bytes.extend(section(2, &imports));
        bytes.extend(section(3, &indices));
        bytes.extend(section(7, &self.exports()));
        let data = &self.program.data;
        if !data.is_empty() {
            bytes.extend(framed(12, unsigned(data.len() as u32)));
        }
        bytes.extend(section(10, &codes));
        if !data.is_empty() {
            let segments: Vec<Vec<u8>> =
                data.iter().map(|data| [vec![1], unsigned(data.bytes.len() as u32), data.bytes.clone()].concat()).collect();
            bytes.extend(section(11, &segments));
        }
        bytes
    }

    fn exports(&self) -> Vec<Vec<u8>> {
        let export = |name: &str, index: u32| [string(name), vec![0, index as u8]].concat();
        let mut exports = vec![export("initDefaults", self.imported)];
        for (index, entry) in self.program.entries.iter().enumerate() {
            exports.push(export(entry, self.callee(Callee::Entry(index))));
        }
        for (index, signature) in self.functions.signatures.iter().enumerate() {
            exports.extend(signature.export.iter().map(|name| export(name, self.callee(Callee::Function(index)))));
        }
        exports
    }

    fn init_defaults(&self) -> Vec<u8> {
        let mut code = vec![0];
        for (index, memory) in self.program.memories.iter().enumerate() {
            if memory.required_bytes > 0 {
                code.extend([0x41, 0, 0x41, 0, 0x41]);
                code.extend(signed(memory.required_bytes as u32 as i32));
                code.extend([0xfc, 0x0b, index as u8]);
            }
        }
        for (index, data) in self.program.data.iter().enumerate() {
            code.push(0x41);
            code.extend(signed(data.address as i32));
            code.extend([0x41, 0, 0x41]);
            code.extend(signed(data.bytes.len() as i32));
            code.extend([0xfc, 0x08]);
            code.extend(unsigned(index as u32));
            code.push(data.memory as u8);
        }
        code.push(0x0b);
        code
    }

    fn dispatchers(&self) -> Vec<Vec<u8>> {
        let functions = self.functions.signatures.iter().filter(|signature| signature.import.is_none()).count();
        let first = self.imported + 1 + (self.program.entries.len() + functions) as u32;
        let entries = 0..self.program.entries.len();
        let body = |entry: usize| {
            let mut code = vec![0];
            for (index, module) in self.program.modules.iter().enumerate() {
                if module.entry == entry && !module.skip_execution {
                    code.push(0x10);
                    code.extend(unsigned(first + index as u32));
                }
            }
            code.push(0x0b);
            code
        };
        entries.map(body).collect()
    }

    fn body(&mut self, code: &Code) -> Vec<u8> {
        let mut body = Body {
            lowering: self,
            code: Vec::new(),
            params: code.params as u32,
            types: Vec::new(),
            declared: HashMap::new(),
            shared: HashMap::new(),
            loops: Vec::new(),
            line: 0,
        };
        for step in &code.steps {
            body.line = step.line;
            body.step(code, &step.op);
        }
        body.finish()
    }
}

/// A body being written.
struct Body<'a, 'b> {
    lowering: &'a mut Lowering<'b>,
    code: Vec<u8>,
    params: u32,
    /// Types of the locals behind the parameters.
    types: Vec<Type>,
    /// Indices of declared locals.
    declared: HashMap<u32, u32>,
    /// Temporaries by purpose and line.
    shared: HashMap<(&'static str, u32), u32>,
    /// Counters of the open loops.
    loops: Vec<u32>,
    line: u32,
}

impl Body<'_, '_> {
    fn finish(self) -> Vec<u8> {
        let mut bytes = unsigned(self.types.len() as u32);
        bytes.extend(self.types.iter().flat_map(|&ty| [1, type_byte(ty)]));
        bytes.extend(self.code);
        bytes.push(0x0b);
        bytes
    }

    fn fresh(&mut self, ty: Type) -> u32 {
        self.types.push(ty);
        self.params + self.types.len() as u32 - 1
    }

    fn shared(&mut self, purpose: &'static str, ty: Type) -> u32 {
        if let Some(&index) = self.shared.get(&(purpose, self.line)) {
            return index;
        }
        let index = self.fresh(ty);
        self.shared.insert((purpose, self.line), index);
        index
    }

    fn raw(&mut self, bytes: &[u8]) {
        self.code.extend(bytes);
    }

    fn get(&mut self, local: u32) {
        self.code.push(0x20);
        self.code.extend(unsigned(local));
    }

    fn set(&mut self, local: u32) {
        self.code.push(0x21);
        self.code.extend(unsigned(local));
    }

    fn int(&mut self, value: i32) {
        self.code.push(0x41);
        self.code.extend(signed(value));
    }

    fn constant(&mut self, constant: Const) {
        match constant {
            Const::I32(value) => self.int(value),
            Const::F32(bits) => {
                self.code.push(0x43);
                self.code.extend(bits.to_le_bytes());
            }
            Const::F64(bits) => {
                self.code.push(0x44);
                self.code.extend(bits.to_le_bytes());
            }
        }
    }

    fn access(&mut self, opcode: u8, align: u8, memory: u32, offset: u32) {
        self.code.push(opcode);
        if memory == 0 {
            self.code.push(align);
        } else {
            self.code.push(align | 0x40);
            self.code.extend(unsigned(memory));
        }
        self.code.extend(unsigned(offset));
    }

    fn load(&mut self, op: Load, memory: u32) {
        let (opcode, align) = match op {
            Load::I32 => (0x28, 2),
            Load::F32 => (0x2a, 2),
            Load::F64 => (0x2b, 3),
            Load::I32From8S => (0x2c, 0),
            Load::I32From8U => (0x2d, 0),
            Load::I32From16S => (0x2e, 1),
            Load::I32From16U => (0x2f, 1),
        };
        self.access(opcode, align, memory, 0);
    }

    fn store(&mut self, op: Store, memory: u32, offset: u32) {
        let (opcode, align) = match op {
            Store::I32 => (0x36, 2),
            Store::F32 => (0x38, 2),
            Store::F64 => (0x39, 3),
            Store::I32Low8 => (0x3a, 0),
        };
        self.access(opcode, align, memory, offset);
    }

    fn limit(&mut self, memory: u32, width: u32) {
        self.raw(&[0x3f, memory as u8]);
        self.int(1);
        self.raw(&[0x6b]);
        self.int(16);
        self.raw(&[0x74]);
        self.int(65_536 - width as i32);
        self.raw(&[0x6a]);
    }

    fn is_inside(&mut self, address: u32, memory: u32, width: u32) {
        self.get(address);
        self.limit(memory, width);
        self.raw(&[0x4d]);
    }

    fn size(&mut self, memory: u32) {
        self.raw(&[0x3f, memory as u8]);
        self.int(16);
        self.raw(&[0x74]);
    }

    fn is_range_inside(&mut self, address: u32, memory: u32, bytes: u32) {
        self.get(address);
        self.size(memory);
        self.raw(&[0x4d]);
        self.int(bytes as i32);
        self.size(memory);
        self.get(address);
        self.raw(&[0x6b, 0x4d, 0x71]);
    }

    fn block_type(&mut self, results: &[Type]) {
        match results {
            [] => self.code.push(0x40),
            [ty] => self.code.push(type_byte(*ty)),
            several => {
                let index = self.lowering.type_index(&[], several);
                self.code.extend(signed(index as i32));
            }
        }
    }

    fn declared_local(&mut self, local: u32) -> u32 {
        if local < self.params { local } else { self.declared[&local] }
    }

    fn step(&mut self, code: &Code, op: &StackOp) {
        match op {
            StackOp::Const(constant) => self.constant(*constant),
            StackOp::ConstTooSmall => self.int(0),
            StackOp::LocalGet(local) => {
                let index = self.declared_local(local.0);
                self.get(index);
            }
            StackOp::LocalSet(local) => {
                let index = self.declared_local(local.0);
                self.set(index);
            }
            StackOp::LocalDeclare { local, .. } => {
                let index = self.fresh(code.locals[local.0 as usize]);
                self.declared.insert(local.0, index);
            }
            StackOp::Load { op, memory, is_guarded, chain } => self.guarded_load(*op, *memory, *is_guarded, *chain),
            StackOp::Store { op, memory, is_guarded: false } => self.store(*op, *memory, 0),
            StackOp::Store { op, memory, is_guarded: true } => self.guarded_store(*op, *memory),
            StackOp::StoreBytes { count, memory, is_guarded } => self.store_bytes(*count, *memory, *is_guarded),
            StackOp::MemoryCopy { bytes, to, from, is_guarded } => self.memory_copy(*bytes, *to, *from, *is_guarded),
            StackOp::MemoryCopyNothing => {}
            StackOp::Unary(op) => self.unary(*op),
            StackOp::Binary(op) => self.code.push(*op as u8),
            StackOp::IntAbs => self.int_abs(),
            StackOp::IntMin => self.int_choice(0x48),
            StackOp::IntMax => self.int_choice(0x4a),
            StackOp::EnsureNonZero(constant) => self.ensure_non_zero(*constant),
            StackOp::RoundFloat64 => self.code.push(0x90),
            StackOp::Clamp { low, high } => {
                let high = *high;
                self.clamp(*low, |body| body.int(high));
            }
            StackOp::ClampMemory { memory, width } => {
                let (memory, width) = (*memory, *width);
                self.clamp(0, |body| body.limit(memory, width));
            }
            StackOp::Drop => self.code.push(0x1a),
            StackOp::If { results } => {
                self.code.push(0x04);
                self.block_type(results);
            }
            StackOp::Else => self.code.push(0x05),
            StackOp::IfEnd | StackOp::BlockEnd => self.code.push(0x0b),
            StackOp::Block { results } => {
                self.code.push(0x02);
                self.block_type(results);
            }
            StackOp::Loop { cap } => self.begin_loop(*cap),
            StackOp::LoopEnd => {
                self.loops.pop();
                self.raw(&[0x0c, 0, 0x0b, 0x0b]);
            }
            StackOp::LoopIndex => {
                let counter = *self.loops.last().expect("inside a loop");
                self.get(counter);
                self.int(1);
                self.code.push(0x6b);
            }
            StackOp::Branch(depth) => {
                self.code.push(0x0c);
                self.code.extend(unsigned(*depth));
            }
            StackOp::BranchIf(depth) => {
                self.code.push(0x0d);
                self.code.extend(unsigned(*depth));
            }
            StackOp::ExitIfTrue { drops } => {
                self.raw(&[0x04, 0x40]);
                (0..*drops).for_each(|_| self.code.push(0x1a));
                self.raw(&[0x0f, 0x0b]);
            }
            StackOp::Return => self.code.push(0x0f),
            StackOp::Call { callee, .. } => {
                let index = self.lowering.callee(*callee);
                self.code.push(0x10);
                self.code.extend(unsigned(index));
            }
            StackOp::Map { input, output, rows, default } => self.map(*input, *output, rows, *default),
        }
    }

    fn unary(&mut self, op: Unary) {
        let bytes: &[u8] = match op {
            Unary::I32Eqz => &[0x45],
            Unary::F32Abs => &[0x8b],
            Unary::F32Sqrt => &[0x91],
            Unary::F32Nearest => &[0x90],
            Unary::F64Abs => &[0x99],
            Unary::F64Sqrt => &[0x9f],
            Unary::F32ConvertI32 => &[0xb2],
            Unary::F64ConvertI32 => &[0xb7],
            Unary::F64PromoteF32 => &[0xbb],
            Unary::I32TruncF32 => &[0xfc, 0],
            Unary::I32TruncF64 => &[0xfc, 2],
        };
        self.raw(bytes);
    }

    fn guarded_load(&mut self, op: Load, memory: u32, is_guarded: bool, chain: Option<Type>) {
        if !is_guarded {
            self.load(op, memory);
            return;
        }
        let ty = chain.unwrap_or(op.result());
        let address = self.shared("load address", Type::I32);
        self.set(address);
        self.is_inside(address, memory, op.bytes());
        self.raw(&[0x04, type_byte(ty)]);
        self.get(address);
        self.load(op, memory);
        self.code.push(0x05);
        self.constant(ty.zero());
        self.code.push(0x0b);
    }

    fn guarded_store(&mut self, op: Store, memory: u32) {
        let address = self.shared("store address", Type::I32);
        let value = self.shared("store value", op.operand());
        self.set(value);
        self.set(address);
        self.is_inside(address, memory, op.bytes());
        self.raw(&[0x04, 0x40]);
        self.get(address);
        self.get(value);
        self.store(op, memory, 0);
        self.raw(&[0x05, 0x0b]);
    }

    fn store_bytes(&mut self, count: u32, memory: u32, is_guarded: bool) {
        let address = self.shared("bytes address", Type::I32);
        let byte = self.shared("bytes byte", Type::I32);
        self.set(address);
        for offset in 0..count {
            self.set(byte);
            if is_guarded {
                self.is_inside(address, memory, offset + 1);
                self.raw(&[0x04, 0x40]);
            }
            self.get(address);
            self.get(byte);
            self.store(Store::I32Low8, memory, offset);
            if is_guarded {
                self.raw(&[0x05, 0x0b]);
            }
        }
    }

    fn memory_copy(&mut self, bytes: u32, to: u32, from: u32, is_guarded: bool) {
        if is_guarded {
            let destination = self.shared("copy destination", Type::I32);
            let source = self.shared("copy source", Type::I32);
            self.set(source);
            self.set(destination);
            self.is_range_inside(destination, to, bytes);
            self.is_range_inside(source, from, bytes);
            self.raw(&[0x71, 0x04, 0x40]);
            self.get(destination);
            self.get(source);
        }
        self.int(bytes as i32);
        self.raw(&[0xfc, 0x0a, to as u8, from as u8]);
        if is_guarded {
            self.raw(&[0x05, 0x0b]);
        }
    }

    fn int_abs(&mut self) {
        let value = self.fresh(Type::I32);
        self.set(value);
        self.get(value);
        self.int(0);
        self.raw(&[0x48, 0x04, 0x7f]);
        self.int(0);
        self.get(value);
        self.raw(&[0x6b, 0x05]);
        self.get(value);
        self.code.push(0x0b);
    }

    fn int_choice(&mut self, comparison: u8) {
        let left = self.fresh(Type::I32);
        let right = self.fresh(Type::I32);
        self.set(right);
        self.set(left);
        self.get(left);
        self.get(right);
        self.raw(&[comparison, 0x04, 0x7f]);
        self.get(left);
        self.code.push(0x05);
        self.get(right);
        self.code.push(0x0b);
    }

    fn ensure_non_zero(&mut self, replacement: Const) {
        let ty = replacement.ty();
        let value = self.fresh(ty);
        self.set(value);
        self.get(value);
        if ty == Type::I32 {
            self.raw(&[0x45, 0x04, 0x7f]);
            self.constant(replacement);
            self.code.push(0x05);
            self.get(value);
            self.code.push(0x0b);
            return;
        }
        self.constant(ty.zero());
        self.raw(&[if ty == Type::F32 { 0x5b } else { 0x61 }, 0x04, 0x40]);
        self.constant(replacement);
        self.set(value);
        self.code.push(0x0b);
        self.get(value);
    }

    fn clamp(&mut self, low: i32, high: impl Fn(&mut Self)) {
        let address = self.shared("clamp", Type::I32);
        self.set(address);
        self.int(low);
        self.get(address);
        self.get(address);
        self.int(low);
        self.raw(&[0x48, 0x1b]);
        self.set(address);
        high(self);
        self.get(address);
        self.get(address);
        high(self);
        self.raw(&[0x4b, 0x1b]);
    }

    fn begin_loop(&mut self, cap: i32) {
        let counter = self.fresh(Type::I32);
        self.int(0);
        self.set(counter);
        self.raw(&[0x02, 0x40, 0x03, 0x40]);
        self.get(counter);
        self.int(cap);
        self.raw(&[0x4e, 0x04, 0x40, 0x0c, 2, 0x0b]);
        self.get(counter);
        self.int(1);
        self.code.push(0x6a);
        self.set(counter);
        self.loops.push(counter);
    }

    fn map(&mut self, input: Type, output: Type, rows: &[(Const, Const)], default: Const) {
        if rows.is_empty() {
            self.code.push(0x1a);
            self.constant(default);
            return;
        }
        let (held, result) = (self.fresh(input), self.fresh(output));
        let (matched, condition) = (self.fresh(Type::I32), self.fresh(Type::I32));
        self.set(held);
        self.constant(default);
        self.set(result);
        self.int(0);
        self.set(matched);
        for (key, value) in rows {
            self.constant(*value);
            self.get(result);
            self.get(held);
            self.constant(*key);
            self.code.push(match input {
                Type::I32 => 0x46,
                Type::F32 => 0x5b,
                Type::F64 => 0x61,
            });
            self.set(condition);
            self.get(condition);
            self.get(matched);
            self.raw(&[0x45, 0x71, 0x1b]);
            self.set(result);
            self.get(matched);
            self.get(condition);
            self.code.push(0x72);
            self.set(matched);
        }
        self.get(result);
    }
}
