//! The life of a broker in its cluster: registered, caught up, unfenced, and taken leave of (`BrokerLifecycleManager`).
//!
//! A state machine without clock and network: [`Lifecycle::next`] says what to send now, [`Lifecycle::deadline_ms`]
//! when to ask again, and the answers come in through [`Lifecycle::registered`] and [`Lifecycle::heartbeat_answered`].
//! One request is on its way at a time.

use crate::error::ErrorCode;
use crate::types::Offset;

/// How far a broker is (`BrokerState`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum BrokerState {
    /// It registers, and takes in the metadata log.
    Starting = 1,
    /// It has the metadata, and waits to be unfenced.
    Recovery = 2,
    /// It serves.
    Running = 3,
    /// It waits until the controller has moved its leaderships to others.
    PendingControlledShutdown = 6,
    /// It may stop.
    ShuttingDown = 7,
}

/// What the broker is told by its configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LifecycleSettings {
    /// `broker.heartbeat.interval.ms`.
    pub heartbeat_interval_ms: i64,
    /// `initial.broker.registration.timeout.ms`: how long the first registration may take.
    pub initial_registration_timeout_ms: i64,
}

/// What to send to the controller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Communication {
    /// A registration.
    Register,
    /// A heartbeat.
    Heartbeat(Heartbeat),
}

/// What a heartbeat says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heartbeat {
    /// The epoch of the registration.
    pub broker_epoch: i64,
    /// The last offset of the metadata log that the broker has taken in.
    pub current_metadata_offset: Offset,
    /// It is not ready to serve.
    pub want_fence: bool,
    /// It wants to stop.
    pub want_shut_down: bool,
}

/// What the controller says to a heartbeat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeartbeatReply {
    /// The broker has the metadata up to its own registration at least.
    pub is_caught_up: bool,
    /// Nobody sees the broker.
    pub is_fenced: bool,
    /// All leaderships are moved.
    pub should_shut_down: bool,
}

/// Why a request brought nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// There was no answer.
    Unanswered,
    /// The controller said no.
    Error(ErrorCode),
}

/// While it starts, the broker asks this often, so that it is up soon where there is little to do.
const STARTING_INTERVAL_MS: i64 = 10;
/// The second question of a broker that wants to stop comes sooner than others.
const SHUTDOWN_INTERVAL_MS: i64 = 50;

/// The state of one broker.
#[derive(Clone, Debug)]
pub struct Lifecycle {
    settings: LifecycleSettings,
    state: BrokerState,
    /// The epoch of the last registration; -1 before the first one.
    broker_epoch: i64,
    is_registered: bool,
    ready_to_unfence: bool,
    in_flight: bool,
    /// Something changed while a request was on its way.
    again_at_once: bool,
    next_ms: i64,
    register_by_ms: i64,
    asked_to_shut_down: bool,
}

impl Lifecycle {
    /// A broker that has to register first.
    pub fn new(settings: LifecycleSettings, now_ms: i64) -> Self {
        Self {
            settings,
            state: BrokerState::Starting,
            broker_epoch: -1,
            is_registered: false,
            ready_to_unfence: false,
            in_flight: false,
            again_at_once: false,
            next_ms: now_ms,
            register_by_ms: now_ms.saturating_add(settings.initial_registration_timeout_ms),
            asked_to_shut_down: false,
        }
    }

    /// A broker that its own controller registered and unfenced when it started.
    pub fn running(settings: LifecycleSettings, broker_epoch: i64, now_ms: i64) -> Self {
        Self {
            state: BrokerState::Running,
            broker_epoch,
            is_registered: true,
            ready_to_unfence: true,
            next_ms: now_ms.saturating_add(settings.heartbeat_interval_ms),
            ..Self::new(settings, now_ms)
        }
    }

    /// How far it is.
    pub fn state(&self) -> BrokerState {
        self.state
    }

    /// The epoch of the last registration; -1 before the first one.
    pub fn broker_epoch(&self) -> i64 {
        self.broker_epoch
    }

    /// When [`Lifecycle::next`] has something to say; `None` while an answer is waited for, and at the end.
    pub fn deadline_ms(&self) -> Option<i64> {
        let waits = !self.in_flight && self.state != BrokerState::ShuttingDown;
        waits.then_some(self.next_ms)
    }

    /// What to send now. Whoever takes it tells the answer.
    pub fn next(&mut self, now_ms: i64, metadata_offset: Offset) -> Option<Communication> {
        if self.deadline_ms().is_none_or(|at_ms| now_ms < at_ms) {
            return None;
        }
        if self.broker_epoch < 0 && now_ms >= self.register_by_ms {
            self.state = BrokerState::ShuttingDown;
            return None;
        }
        self.in_flight = true;
        if !self.is_registered {
            return Some(Communication::Register);
        }
        Some(Communication::Heartbeat(Heartbeat {
            broker_epoch: self.broker_epoch,
            current_metadata_offset: metadata_offset,
            want_fence: !self.ready_to_unfence,
            want_shut_down: self.state == BrokerState::PendingControlledShutdown,
        }))
    }

    /// The controller took the broker in under this epoch, or did not.
    pub fn registered(&mut self, now_ms: i64, answer: Result<i64, Refusal>) {
        self.in_flight = false;
        match answer {
            Ok(broker_epoch) => {
                self.broker_epoch = broker_epoch;
                self.is_registered = true;
                self.next_ms = now_ms;
            }
            Err(_) => self.after_failure(now_ms),
        }
    }

    /// The answer to a heartbeat.
    pub fn heartbeat_answered(&mut self, now_ms: i64, answer: Result<HeartbeatReply, Refusal>) {
        self.in_flight = false;
        let reply = match answer {
            Ok(reply) => reply,
            Err(refusal) => {
                // Somebody removed the registration. Another life of this broker would be refused as a duplicate.
                let unknown = [ErrorCode::StaleBrokerEpoch, ErrorCode::BrokerIdNotRegistered];
                if unknown.map(Refusal::Error).contains(&refusal) {
                    self.is_registered = false;
                }
                self.after_failure(now_ms);
                return;
            }
        };
        match self.state {
            BrokerState::Starting => {
                if reply.is_caught_up {
                    self.state = BrokerState::Recovery;
                }
                self.after(now_ms, STARTING_INTERVAL_MS);
            }
            BrokerState::Recovery => {
                if reply.is_fenced {
                    let interval_ms = self.settings.heartbeat_interval_ms;
                    self.after(
                        now_ms,
                        if self.ready_to_unfence { STARTING_INTERVAL_MS } else { interval_ms },
                    );
                } else {
                    self.state = BrokerState::Running;
                    self.after(now_ms, self.settings.heartbeat_interval_ms);
                }
            }
            BrokerState::Running => self.after(now_ms, self.settings.heartbeat_interval_ms),
            BrokerState::PendingControlledShutdown if reply.should_shut_down => {
                self.state = BrokerState::ShuttingDown;
            }
            BrokerState::PendingControlledShutdown => {
                let is_first = !std::mem::replace(&mut self.asked_to_shut_down, true);
                let interval_ms = self.settings.heartbeat_interval_ms;
                self.after(
                    now_ms,
                    if is_first { SHUTDOWN_INTERVAL_MS.min(interval_ms) } else { interval_ms },
                );
            }
            BrokerState::ShuttingDown => {}
        }
    }

    /// The broker can serve as soon as the controller lets it.
    pub fn set_ready_to_unfence(&mut self, now_ms: i64) {
        self.ready_to_unfence = true;
        self.at_once(now_ms);
    }

    /// The broker wants to stop. One that runs waits until its leaderships are moved; one that does not yet stops.
    pub fn begin_controlled_shutdown(&mut self, now_ms: i64) {
        match self.state {
            BrokerState::Running => {
                self.state = BrokerState::PendingControlledShutdown;
                self.at_once(now_ms);
            }
            BrokerState::PendingControlledShutdown => {}
            BrokerState::Starting | BrokerState::Recovery | BrokerState::ShuttingDown => {
                self.state = BrokerState::ShuttingDown;
            }
        }
    }

    /// Registers again: something in the registration changed.
    pub fn register_again(&mut self, now_ms: i64) {
        self.is_registered = false;
        self.at_once(now_ms);
    }

    fn at_once(&mut self, now_ms: i64) {
        if self.in_flight {
            self.again_at_once = true;
        } else {
            self.next_ms = now_ms;
        }
    }

    fn after(&mut self, now_ms: i64, interval_ms: i64) {
        let at_once = std::mem::take(&mut self.again_at_once);
        self.next_ms = if at_once { now_ms } else { now_ms.saturating_add(interval_ms) };
    }

    fn after_failure(&mut self, now_ms: i64) {
        self.again_at_once = false;
        self.next_ms = now_ms.saturating_add(self.settings.heartbeat_interval_ms);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETTINGS: LifecycleSettings =
        LifecycleSettings { heartbeat_interval_ms: 2_000, initial_registration_timeout_ms: 60_000 };

    fn reply(is_caught_up: bool, is_fenced: bool, should_shut_down: bool) -> HeartbeatReply {
        HeartbeatReply { is_caught_up, is_fenced, should_shut_down }
    }

    fn heartbeat(broker_epoch: i64, offset: Offset, fence: bool, shut_down: bool) -> Option<Communication> {
        Some(Communication::Heartbeat(Heartbeat {
            broker_epoch,
            current_metadata_offset: offset,
            want_fence: fence,
            want_shut_down: shut_down,
        }))
    }

    #[test]
    fn a_broker_registers_catches_up_is_unfenced_and_takes_leave() {
        let mut broker = Lifecycle::new(SETTINGS, 0);
        assert_eq!(broker.next(0, 0), Some(Communication::Register));
        assert_eq!((broker.next(0, 0), broker.deadline_ms()), (None, None));
        broker.registered(5, Ok(17));
        assert_eq!(broker.next(5, 3), heartbeat(17, 3, true, false));
        broker.heartbeat_answered(6, Ok(reply(false, true, false)));
        assert_eq!((broker.state(), broker.deadline_ms()), (BrokerState::Starting, Some(16)));
        assert_eq!(broker.next(16, 20), heartbeat(17, 20, true, false));
        broker.set_ready_to_unfence(17);
        broker.heartbeat_answered(18, Ok(reply(true, true, false)));
        assert_eq!((broker.state(), broker.deadline_ms()), (BrokerState::Recovery, Some(18)));
        assert_eq!(broker.next(18, 21), heartbeat(17, 21, false, false));
        broker.heartbeat_answered(20, Ok(reply(true, false, false)));
        assert_eq!((broker.state(), broker.deadline_ms()), (BrokerState::Running, Some(2_020)));
        broker.begin_controlled_shutdown(100);
        assert_eq!(broker.next(100, 22), heartbeat(17, 22, false, true));
        broker.heartbeat_answered(101, Ok(reply(true, false, false)));
        assert_eq!(broker.deadline_ms(), Some(151));
        assert_eq!(broker.next(151, 23), heartbeat(17, 23, false, true));
        broker.heartbeat_answered(152, Ok(reply(true, false, true)));
        assert_eq!((broker.state(), broker.deadline_ms()), (BrokerState::ShuttingDown, None));
    }

    #[test]
    fn who_can_not_register_tries_again_and_gives_up_in_the_end() {
        let mut broker = Lifecycle::new(SETTINGS, 0);
        let duplicate = Refusal::Error(ErrorCode::DuplicateBrokerRegistration);
        let mut now_ms = 0;
        while let Some(at_ms) = broker.deadline_ms() {
            now_ms = at_ms;
            if broker.next(now_ms, 0).is_some() {
                broker.registered(now_ms, Err(duplicate));
            }
        }
        assert_eq!((now_ms, broker.state()), (60_000, BrokerState::ShuttingDown));
    }

    #[test]
    fn who_was_unregistered_registers_again() {
        for code in [ErrorCode::StaleBrokerEpoch, ErrorCode::BrokerIdNotRegistered] {
            let mut broker = Lifecycle::running(SETTINGS, 5, 0);
            assert_eq!(broker.next(1_999, 0), None);
            assert_eq!(broker.next(2_000, 0), heartbeat(5, 0, false, false));
            broker.heartbeat_answered(2_001, Err(Refusal::Error(code)));
            assert_eq!(broker.next(4_001, 0), Some(Communication::Register));
            broker.registered(4_002, Ok(9));
            assert_eq!(broker.next(4_002, 10), heartbeat(9, 10, false, false));
            assert_eq!(broker.state(), BrokerState::Running);
        }
    }

    #[test]
    fn silence_is_no_reason_to_register_again() {
        let mut broker = Lifecycle::running(SETTINGS, 5, 0);
        broker.next(2_000, 0);
        broker.heartbeat_answered(2_500, Err(Refusal::Unanswered));
        assert_eq!(broker.next(4_500, 0), heartbeat(5, 0, false, false));
        broker.heartbeat_answered(4_501, Err(Refusal::Error(ErrorCode::NotController)));
        assert_eq!(broker.next(6_501, 0), heartbeat(5, 0, false, false));
    }

    #[test]
    fn who_never_served_stops_at_once() {
        let mut broker = Lifecycle::new(SETTINGS, 0);
        broker.begin_controlled_shutdown(1);
        assert_eq!((broker.state(), broker.deadline_ms()), (BrokerState::ShuttingDown, None));
    }
}
