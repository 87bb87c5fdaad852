//! Who listens to whom: routes between runtimes, and from the device's input. Part of the state machine: see the parent module.
//!
//! Routes are kept by the names of runtimes, whatever becomes of their hosts, and are told to the device host as the names of the
//! lanes that those have at the time. A program that wants to hear something, and that no route leads to, hears the device's input.

use ipc::message::{Bus, Buses, InputStatus};
use serde::{Deserialize, Serialize};

use super::edits::{find, runtime_name};
use super::{Action, Device, Policy, Report, RuntimeIndex};
use crate::control::protocol::{self, Answer, ControlEvent, ErrorCode, ErrorReply, InputNow, RouteNow, Routing, RuntimeName};

/// What stands for the device's input where a runtime is named that is listened to.
pub const DEVICE_INPUT: &str = "@input";

/// Routes that a session may have: far more than anybody keeps in mind.
const MAX_ROUTES: usize = 256;

/// One runtime hears what another one delivers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// A runtime, or [`DEVICE_INPUT`].
    pub from: String,
    pub to: String,
    /// It is heard only there, and not directly.
    pub is_only: bool,
}

/// The routes of a session, and what is known of them.
#[derive(Debug)]
pub(super) struct Routes {
    pub list: Vec<Route>,
    /// What the device host of this generation has been told; `None` where that is not known.
    told: Option<(u64, Buses)>,
    pub input: InputStatus,
    pub bus_latency_blocks: u64,
}

impl Default for Routes {
    fn default() -> Self {
        Self { list: Vec::new(), told: Some((1, Buses::default())), input: InputStatus::default(), bus_latency_blocks: 1 }
    }
}

impl Routes {
    /// Those of a session that is taken back: what its device host has been told may be something else.
    pub fn taken_back(list: Vec<Route>) -> Self {
        Self { list, told: None, ..Self::default() }
    }
}

impl Policy {
    /// Connects runtimes before anything is heard. They are known to exist.
    pub fn connect(&mut self, routes: impl IntoIterator<Item = Route>) {
        self.routes.list.extend(routes);
    }

    pub(super) fn route(&mut self, route: &protocol::Route, actions: &mut Vec<Action>) -> Result<Answer, ErrorReply> {
        let (from, to) = self.ends(&route.from, &route.to)?;
        let is_full = self.routes.list.len() >= MAX_ROUTES;
        let known = self.routes.list.iter_mut().find(|known| known.from == from && known.to == to);
        match known {
            Some(known) => known.is_only = route.only,
            None if is_full => {
                return Err(ErrorReply::new(ErrorCode::Exhausted, format!("a session has {MAX_ROUTES} routes at most")));
            }
            None => self.routes.list.push(Route { from, to, is_only: route.only }),
        }
        self.tell_route(&route.from, &route.to, true, route.only, actions);
        Ok(Answer::Route(self.routing()))
    }

    pub(super) fn unroute(&mut self, unroute: &protocol::Unroute, actions: &mut Vec<Action>) -> Result<Answer, ErrorReply> {
        let before = self.routes.list.len();
        self.routes.list.retain(|route| route.from != unroute.from.as_str() || route.to != unroute.to.as_str());
        if self.routes.list.len() == before {
            let known = self.routes.list.iter().map(|route| format!("{} {}", route.from, route.to)).collect();
            let message = format!("nothing is routed from `{}` to `{}`", unroute.from, unroute.to);
            return Err(ErrorReply::new(ErrorCode::WrongState, message).with_known(known));
        }
        self.tell_route(&unroute.from, &unroute.to, false, false, actions);
        Ok(Answer::Unroute(self.routing()))
    }

    fn tell_route(&self, from: &RuntimeName, to: &RuntimeName, on: bool, only: bool, actions: &mut Vec<Action>) {
        let event = ControlEvent::Routed { from: from.clone(), runtime: to.clone(), on, only };
        actions.push(Action::Tell(Report::Control(Box::new(event))));
    }

    /// Names of runtimes that exist.
    fn ends(&self, from: &RuntimeName, to: &RuntimeName) -> Result<(String, String), ErrorReply> {
        let check = |name: &RuntimeName, field: &str| {
            self.runtime(name).map(|_| name.as_str().to_owned()).map_err(|error| error.in_field(format!("params.{field}")))
        };
        let from = if from.as_str() == DEVICE_INPUT { DEVICE_INPUT.to_owned() } else { check(from, "from")? };
        Ok((from, check(to, "to")?))
    }

    /// Routes as they are now, and what comes of them.
    pub(super) fn routing(&self) -> Routing {
        let route = |route: &Route| RouteNow {
            from: runtime_name(&route.from),
            to: runtime_name(&route.to),
            only: route.is_only,
            silent_because: self.silence_of(route),
        };
        Routing {
            routes: self.routes.list.iter().map(route).collect(),
            bus_latency_blocks: self.routes.bus_latency_blocks,
            input: self.routes.input.device.clone().map(|device| InputNow {
                device,
                latency_frames: self.routes.input.latency_frames,
                gaps: self.routes.input.gaps,
            }),
        }
    }

    /// Why nothing comes of a route.
    fn silence_of(&self, route: &Route) -> Option<String> {
        let plan = |name: &str| self.voice(name).and_then(|slot| self.programs[slot.0].revision.as_ref()).map(|revision| &revision.plan);
        if route.from != DEVICE_INPUT {
            match plan(&route.from) {
                None => return Some(format!("`{}` does not run", route.from)),
                Some(plan) if !plan.has_sound() => return Some(format!("`{}` delivers no sound", route.from)),
                Some(_) => {}
            }
        } else if self.routes.input.device.is_none() {
            return Some("there is no input device".to_owned());
        }
        match plan(&route.to) {
            None => Some(format!("`{}` does not run", route.to)),
            Some(plan) if !plan.hears_sound => {
                Some(format!("`{}` listens to nothing: it has no `; @config audioRuntime.audioInBufferLAddress`", route.to))
            }
            Some(_) => None,
        }
    }

    /// What a runtime listens to.
    pub(super) fn heard_by(&self, name: &str) -> Vec<RuntimeName> {
        let Some(slot) = self.voice(name) else { return Vec::new() };
        if !self.hears_sound(slot) {
            return Vec::new();
        }
        let routed: Vec<RuntimeName> =
            self.routes.list.iter().filter(|route| route.to == name).map(|route| runtime_name(&route.from)).collect();
        if routed.is_empty() { vec![runtime_name(DEVICE_INPUT)] } else { routed }
    }

    fn hears_sound(&self, slot: RuntimeIndex) -> bool {
        self.programs[slot.0].revision.as_ref().is_some_and(|revision| revision.plan.hears_sound)
    }

    /// The life of a runtime that is heard, or is to be.
    fn voice(&self, name: &str) -> Option<RuntimeIndex> {
        let slot = match find(&self.runtimes, name) {
            Some(runtime) => self.runtimes[runtime].slot?,
            None => RuntimeIndex(self.programs.iter().position(|program| program.runtime.is_none() && program.name == name)?),
        };
        let program = &self.programs[slot.0];
        (!program.phase.is_over() && !program.is_retiring).then_some(slot)
    }

    fn lane_of(&self, name: &str) -> Option<String> {
        self.voice(name).map(|slot| self.programs[slot.0].lane_name.clone())
    }

    /// The routes as the device host is to have them.
    pub(super) fn buses(&self) -> Buses {
        let mut buses = Buses::default();
        for route in &self.routes.list {
            if let Some(to) = self.lane_of(&route.to) {
                let from = if route.from == DEVICE_INPUT { None } else { self.lane_of(&route.from) };
                if from.is_some() || route.from == DEVICE_INPUT {
                    buses.list.push(Bus { from, to });
                }
            }
            let lane = self.lane_of(&route.from).filter(|_| route.is_only);
            buses.unheard.extend(lane.filter(|lane| !buses.unheard.contains(lane)));
        }
        for program in &self.programs {
            let is_routed = self.routes.list.iter().any(|route| route.to == program.name);
            if let Some(slot) = self.voice(&program.name).filter(|slot| !is_routed && self.hears_sound(*slot))
                && self.programs[slot.0].lane_name == program.lane_name
            {
                buses.list.push(Bus { from: None, to: program.lane_name.clone() });
            }
        }
        buses
    }

    /// Tells the device host who listens to whom, where that has changed. Before it is told of the lanes: they are connected
    /// from their first block on.
    pub(super) fn connect_buses(&mut self, actions: &mut Vec<Action>) {
        match self.device {
            Device::Opening { .. } | Device::Open => {}
            Device::Closed | Device::Stopping | Device::Stopped => return,
        }
        let buses = self.buses();
        let generation = self.device_generation;
        let is_known = match &self.routes.told {
            Some((told_to, told)) if *told_to == generation => *told == buses,
            // A new one knows of nothing.
            Some(_) => buses == Buses::default(),
            None => false,
        };
        self.routes.told = Some((generation, buses.clone()));
        if !is_known {
            actions.push(Action::Connect(buses));
        }
    }
}
