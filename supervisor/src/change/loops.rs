//! Finds the feedback loops of a program: strongly connected components of at least two modules in the graph of references.
//!
//! Tarjan's algorithm ("Depth-first search and linear graph algorithms", SIAM J. Comput. 1, 1972), with its own stack: the
//! depth of a program's graph must not decide over the supervisor's.

use std::collections::{BTreeMap, BTreeSet};

use ipc::manifest::Manifest;
use ipc::plan::{Change, ChangeClass, Difference};

/// Module ids of one feedback loop.
pub type Loop<'a> = BTreeSet<&'a str>;

/// The feedback loops of one revision.
#[derive(Debug, Default)]
pub struct Loops<'a> {
    loops: BTreeSet<Loop<'a>>,
    members: BTreeSet<&'a str>,
}

impl<'a> Loops<'a> {
    pub fn of(manifest: &'a Manifest) -> Self {
        let components = Search::run(manifest);
        let name = |index: &usize| manifest.modules[*index].id.as_str();
        let loops: BTreeSet<Loop> =
            components.iter().map(|component| component.iter().map(name).collect()).filter(|members: &Loop| members.len() > 1).collect();
        let members = loops.iter().flatten().copied().collect();
        Self { loops, members }
    }

    /// Whether the module is part of a feedback loop.
    pub fn contains(&self, module: &str) -> bool {
        self.members.contains(module)
    }
}

/// How the feedback structure differs; empty when it is the same.
pub fn differences(old: &Loops, new: &Loops) -> Vec<Difference> {
    let gone: Vec<&Loop> = old.loops.difference(&new.loops).collect();
    let created: Vec<&Loop> = new.loops.difference(&old.loops).collect();
    let mut kin = Kin::default();
    gone.iter().chain(&created).for_each(|members| kin.join(members));
    let mut groups: BTreeMap<usize, (Vec<&Loop>, Vec<&Loop>)> = BTreeMap::new();
    for members in gone {
        groups.entry(kin.of(members)).or_default().0.push(members);
    }
    for members in created {
        groups.entry(kin.of(members)).or_default().1.push(members);
    }
    let named = |loops: Vec<&Loop>| loops.into_iter().map(|members| members.iter().map(|id| (*id).to_owned()).collect()).collect();
    groups.into_values().map(|(from, to)| Difference { class: ChangeClass::C, what: change(named(from), named(to)) }).collect()
}

/// What happened to loops that have members in common.
fn change(mut from: Vec<Vec<String>>, mut to: Vec<Vec<String>>) -> Change {
    match (from.len(), to.len()) {
        (0, 1) => Change::LoopCreated { modules: to.remove(0) },
        (1, 0) => Change::LoopBroken { modules: from.remove(0) },
        _ => Change::LoopChanged { from, to },
    }
}

/// Which modules are connected by loops of either revision (disjoint sets with path halving).
#[derive(Default)]
struct Kin<'a> {
    indices: BTreeMap<&'a str, usize>,
    parents: Vec<usize>,
}

impl<'a> Kin<'a> {
    fn join(&mut self, members: &Loop<'a>) {
        let roots: Vec<usize> = members.iter().map(|module| self.root(module)).collect();
        for pair in roots.windows(2) {
            let (one, other) = (self.up(pair[0]), self.up(pair[1]));
            self.parents[one] = other;
        }
    }

    /// What all loops have in common that are connected with this one.
    fn of(&mut self, members: &Loop<'a>) -> usize {
        members.first().map_or(usize::MAX, |module| self.root(module))
    }

    fn root(&mut self, module: &'a str) -> usize {
        let next = self.parents.len();
        let index = *self.indices.entry(module).or_insert(next);
        if index == next {
            self.parents.push(next);
        }
        self.up(index)
    }

    fn up(&mut self, mut index: usize) -> usize {
        while self.parents[index] != index {
            self.parents[index] = self.parents[self.parents[index]];
            index = self.parents[index];
        }
        index
    }
}

/// One run of Tarjan's algorithm.
struct Search {
    edges: Vec<Vec<usize>>,
    /// Order in which a node was first seen.
    order: Vec<Option<usize>>,
    /// The earliest node that is known to be reachable.
    low: Vec<usize>,
    is_open: Vec<bool>,
    open: Vec<usize>,
    seen: usize,
    components: Vec<Vec<usize>>,
}

impl Search {
    fn run(manifest: &Manifest) -> Vec<Vec<usize>> {
        let nodes = manifest.modules.len();
        // A reference to a module that does not exist leads nowhere.
        let targets = |references: &[u32]| references.iter().map(|target| *target as usize).filter(|target| *target < nodes).collect();
        let mut search = Self {
            edges: manifest.modules.iter().map(|module| targets(&module.references)).collect(),
            order: vec![None; nodes],
            low: vec![0; nodes],
            is_open: vec![false; nodes],
            open: Vec::new(),
            seen: 0,
            components: Vec::new(),
        };
        (0..nodes).for_each(|node| search.visit(node));
        search.components
    }

    /// Visits everything that can be reached from `start`. The stack holds the path there, with the next edge of each node.
    fn visit(&mut self, start: usize) {
        if self.order[start].is_some() {
            return;
        }
        self.enter(start);
        let mut path = vec![(start, 0)];
        while let Some((node, edge)) = path.pop() {
            match self.edges[node].get(edge).copied() {
                Some(target) => {
                    path.push((node, edge + 1));
                    match self.order[target] {
                        None => {
                            self.enter(target);
                            path.push((target, 0));
                        }
                        Some(order) if self.is_open[target] => self.low[node] = self.low[node].min(order),
                        Some(_) => {}
                    }
                }
                None => self.leave(node, path.last().map(|(parent, _)| *parent)),
            }
        }
    }

    fn enter(&mut self, node: usize) {
        self.order[node] = Some(self.seen);
        self.low[node] = self.seen;
        self.seen += 1;
        self.open.push(node);
        self.is_open[node] = true;
    }

    fn leave(&mut self, node: usize, parent: Option<usize>) {
        if let Some(parent) = parent {
            self.low[parent] = self.low[parent].min(self.low[node]);
        }
        if self.order[node] != Some(self.low[node]) {
            return;
        }
        let mut component = Vec::new();
        while let Some(member) = self.open.pop() {
            self.is_open[member] = false;
            component.push(member);
            if member == node {
                break;
            }
        }
        self.components.push(component);
    }
}
