//! The task of a shard, and the handle to it.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::timers::Timers;
use super::{Core, Decision, Journal, Loaded, PendingAppend, RecentTimes, TimerChange, Token};
use crate::clock::Clock;
use crate::error::ErrorCode;

/// Commands that may wait for their turn. Who comes later waits in its own connection.
const MAILBOX_COMMANDS_MAX: usize = 1024;
/// Commands that are appended together: enough to make one write of a burst, few enough to answer soon.
const BATCH_COMMANDS_MAX: usize = 256;
/// Appends under way; more would only wait in the store's queue.
const APPENDS_IN_FLIGHT_MAX: usize = 16;
/// How long after a failure the state is loaded again.
const RELOAD_DELAY_MS: i64 = 1_000;
/// How long callers are kept waiting for a state that is being loaded, before they are told: most load sooner.
const LOAD_PATIENCE_MS: i64 = 500;
/// How long a deadline is put off whose records are refused.
const REFUSED_DELAY_MS: i64 = 1_000;

type Answer<C> = Result<<C as Core>::Reply, ErrorCode>;
type Caller<C> = oneshot::Sender<Answer<C>>;

/// The handle to a shard. The shard ends with the last handle, or when it is told to.
pub struct Shard<C: Core> {
    mailbox: mpsc::Sender<Envelope<C>>,
    stopped: CancellationToken,
}

impl<C: Core> Clone for Shard<C> {
    fn clone(&self) -> Self {
        Self { mailbox: self.mailbox.clone(), stopped: self.stopped.clone() }
    }
}

/// How a shard is run.
#[derive(Clone, Debug)]
pub struct ShardOptions {
    /// For the log.
    pub name: String,
    /// How long a caller waits for its records to be committed.
    pub write_timeout_ms: i64,
    /// Where it tells how long it took to load.
    pub load_times: Arc<RecentTimes>,
}

struct Envelope<C: Core> {
    command: C::Command,
    caller: Caller<C>,
}

impl<C: Core> Shard<C> {
    /// Starts a shard, which begins with loading its state.
    pub fn spawn(options: ShardOptions, journal: Arc<dyn Journal<C>>, clock: Clock) -> Self {
        let (mailbox, commands) = mpsc::channel(MAILBOX_COMMANDS_MAX);
        let stopped = CancellationToken::new();
        tokio::spawn(Runner { options, journal, clock, commands, stopped: stopped.clone() }.run());
        Self { mailbox, stopped }
    }

    /// Ends the shard: what is under way is finished, whoever is held is sent elsewhere.
    pub fn stop(&self) {
        self.stopped.cancel();
    }

    /// Whether the shard has ended.
    pub fn is_closed(&self) -> bool {
        self.mailbox.is_closed()
    }

    /// Puts a command into the mailbox at once, so that it is carried out before whatever comes later. The future that
    /// is returned is the reply.
    ///
    /// # Errors
    /// `COORDINATOR_NOT_AVAILABLE` while the mailbox is full, `NOT_COORDINATOR` when the shard has ended.
    pub fn post(
        &self,
        command: C::Command,
    ) -> Result<impl Future<Output = Answer<C>> + Send + use<C>, ErrorCode> {
        let (caller, answer) = oneshot::channel();
        self.mailbox.try_send(Envelope { command, caller }).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => ErrorCode::CoordinatorNotAvailable,
            mpsc::error::TrySendError::Closed(_) => ErrorCode::NotCoordinator,
        })?;
        Ok(async move { answer.await.unwrap_or(Err(ErrorCode::NotCoordinator)) })
    }

    /// Has the shard carry out a command. Waits for room in the mailbox and for the reply.
    ///
    /// # Errors
    /// `COORDINATOR_LOAD_IN_PROGRESS` while the state can not be loaded, `NOT_COORDINATOR` when the shard ends, and
    /// whatever the journal says of a failed append.
    pub async fn call(&self, command: C::Command) -> Answer<C> {
        let (caller, answer) = oneshot::channel();
        let sent = self.mailbox.send(Envelope { command, caller }).await;
        sent.map_err(|_| ErrorCode::NotCoordinator)?;
        answer.await.unwrap_or(Err(ErrorCode::NotCoordinator))
    }
}

struct Runner<C: Core> {
    options: ShardOptions,
    journal: Arc<dyn Journal<C>>,
    clock: Clock,
    commands: mpsc::Receiver<Envelope<C>>,
    stopped: CancellationToken,
}

/// Why serving ended.
enum End {
    /// Nobody can ask any more, or nobody shall.
    Closed,
    /// The state and the log differ.
    AppendFailed,
    /// What follows from the loaded state can not be written.
    NotStarted,
}

impl<C: Core> Runner<C> {
    async fn run(mut self) {
        self.live().await;
        self.journal.close();
    }

    async fn live(&mut self) {
        while let Some(loaded) = self.load().await {
            let mut live =
                Live::new(loaded, self.journal.clone(), self.clock.clone(), self.options.write_timeout_ms);
            match self.serve(&mut live).await {
                End::Closed => return live.close(ErrorCode::NotCoordinator).await,
                End::AppendFailed => {
                    warn!(shard = self.options.name, "an append failed, the state is loaded again");
                    live.close(ErrorCode::NotCoordinator).await;
                }
                End::NotStarted => {
                    live.close(ErrorCode::NotCoordinator).await;
                    if self.refuse_for(RELOAD_DELAY_MS).await.is_none() {
                        return;
                    }
                }
            }
        }
    }

    /// Loads the state; `None` when nobody can ask for it any more.
    async fn load(&mut self) -> Option<Loaded<C>> {
        let name = self.options.name.clone();
        loop {
            let journal = self.journal.clone();
            let mut loading = tokio::task::spawn_blocking(move || journal.load());
            let clock = self.clock.clone();
            let began_ms = clock.steady_ms();
            let patience = clock.sleep_until(began_ms + LOAD_PATIENCE_MS);
            let loaded = tokio::select! {
                biased;
                () = self.stopped.cancelled() => return None,
                loaded = &mut loading => loaded,
                () = patience => self.refuse_until(&mut loading).await?,
            };
            match loaded {
                Ok(Ok(loaded)) => {
                    let now_ms = clock.steady_ms();
                    self.options.load_times.took(now_ms, now_ms - began_ms);
                    info!(shard = name, "loaded");
                    return Some(loaded);
                }
                Ok(Err(error)) => error!(shard = name, %error, "the state can not be loaded"),
                Err(error) => error!(shard = name, %error, "loading ended early"),
            }
            self.refuse_for(RELOAD_DELAY_MS).await?;
        }
    }

    async fn refuse_for(&mut self, delay_ms: i64) -> Option<()> {
        let clock = self.clock.clone();
        let over = std::pin::pin!(clock.sleep_until(clock.steady_ms() + delay_ms));
        self.refuse_until(over).await
    }

    /// Tells callers to come again, until this is over; `None` when nobody can ask any more.
    async fn refuse_until<T>(&mut self, mut over: impl Future<Output = T> + Unpin) -> Option<T> {
        loop {
            tokio::select! {
                biased;
                over = &mut over => return Some(over),
                () = self.stopped.cancelled() => return None,
                envelope = self.commands.recv() => {
                    // A caller that has given up does not need its answer.
                    let _ = envelope?.caller.send(Err(ErrorCode::CoordinatorLoadInProgress));
                }
            }
        }
    }

    async fn serve(&mut self, live: &mut Live<C>) -> End {
        let mut batch = Vec::new();
        let now = Now::of(&self.clock);
        if live.carry_out_all(|live| live.start(now), now).is_err() {
            return End::NotStarted;
        }
        loop {
            let steady_ms = self.clock.steady_ms();
            let has_room = live.in_flight.len() < APPENDS_IN_FLIGHT_MAX;
            // Nothing is committed for long: who asks is told so at once.
            let stalls = !has_room && live.in_flight[0].deadline_ms <= steady_ms;
            let deadline_ms = live.next_deadline(has_room, steady_ms);
            tokio::select! {
                biased;
                () = self.stopped.cancelled() => return End::Closed,
                result = durable(&mut live.in_flight) => {
                    if let Err(code) = result {
                        live.fail_first(code);
                        return End::AppendFailed;
                    }
                    live.answer_first();
                    continue;
                }
                count = self.commands.recv_many(&mut batch, BATCH_COMMANDS_MAX), if has_room || stalls => {
                    if count == 0 {
                        return End::Closed;
                    }
                }
                () = self.clock.sleep_until(deadline_ms.unwrap_or(i64::MAX)), if deadline_ms.is_some() => {}
            }
            let now = Now::of(&self.clock);
            live.time_out(now);
            if !has_room {
                for envelope in batch.drain(..) {
                    let _ = envelope.caller.send(Err(ErrorCode::CoordinatorNotAvailable));
                }
                continue;
            }
            if live.carry_out_all(|live| live.decide(now, &mut batch), now).is_err() {
                return End::AppendFailed;
            }
        }
    }
}

/// One moment on both clocks: cores are told the wall clock, which dates what they write; their deadlines run on the
/// steady one.
#[derive(Clone, Copy)]
struct Now {
    wall_ms: i64,
    steady_ms: i64,
}

impl Now {
    fn of(clock: &Clock) -> Self {
        Self { wall_ms: clock.now_ms(), steady_ms: clock.steady_ms() }
    }

    fn on_steady_clock<T>(self, change: TimerChange<T>) -> TimerChange<T> {
        match change {
            TimerChange::Arm { timer, deadline_ms } => {
                let left_ms = deadline_ms.saturating_sub(self.wall_ms);
                TimerChange::Arm { timer, deadline_ms: self.steady_ms.saturating_add(left_ms) }
            }
            TimerChange::Cancel { timer } => TimerChange::Cancel { timer },
        }
    }
}

/// Waits for the oldest append under way, forever if there is none.
async fn durable<C: Core>(in_flight: &mut VecDeque<InFlight<C>>) -> Result<(), ErrorCode> {
    match in_flight.front_mut() {
        Some(first) => first.pending.as_mut().await,
        None => std::future::pending().await,
    }
}

/// An append under way, and who is told when it is durable.
struct InFlight<C: Core> {
    pending: PendingAppend,
    /// Until when they wait, on the steady clock.
    deadline_ms: i64,
    answers: Vec<(Caller<C>, C::Reply)>,
}

/// A loaded state, with everything that is under way.
struct Live<C: Core> {
    core: C,
    journal: Arc<dyn Journal<C>>,
    clock: Clock,
    timers: Timers<C::Timer>,
    held: HashMap<Token, Caller<C>>,
    next_token: u64,
    in_flight: VecDeque<InFlight<C>>,
    /// Why the oldest append failed: what came later was decided on a state that is not there.
    failed: Option<ErrorCode>,
    write_timeout_ms: i64,
    events: Vec<C::Event>,
    answers: Vec<(Caller<C>, C::Reply)>,
}

impl<C: Core> Live<C> {
    fn new(loaded: Loaded<C>, journal: Arc<dyn Journal<C>>, clock: Clock, write_timeout_ms: i64) -> Self {
        let deadline_ms = clock.steady_ms().saturating_add(write_timeout_ms);
        let nobody = |pending| InFlight { pending, deadline_ms, answers: Vec::new() };
        Self {
            core: loaded.core,
            journal,
            clock,
            timers: Timers::default(),
            held: HashMap::new(),
            next_token: 0,
            in_flight: loaded.committed.map(nobody).into_iter().collect(),
            failed: None,
            write_timeout_ms,
            events: Vec::new(),
            answers: Vec::new(),
        }
    }

    fn start(&mut self, now: Now) {
        let decision = self.core.start(now.wall_ms);
        self.replay(now, decision);
    }

    /// Deadlines that have passed come first, then the commands in their order.
    fn decide(&mut self, now: Now, batch: &mut Vec<Envelope<C>>) {
        while let Some(timer) = self.timers.pop_due(now.steady_ms) {
            let decision = self.core.expire(now.wall_ms, &timer);
            if self.journal.check(&decision.events).is_err() {
                let deadline_ms = now.steady_ms.saturating_add(REFUSED_DELAY_MS);
                self.timers.change(TimerChange::Arm { timer, deadline_ms });
                continue;
            }
            self.replay(now, decision);
        }
        for envelope in batch.drain(..) {
            self.next_token += 1;
            let token = Token(self.next_token);
            let decision = self.core.decide(now.wall_ms, token, envelope.command);
            if let Err(code) = self.journal.check(&decision.events) {
                // A caller that has given up does not need its answer.
                let _ = envelope.caller.send(Err(code));
                continue;
            }
            self.held.insert(token, envelope.caller);
            self.replay(now, decision);
        }
    }

    fn replay(&mut self, now: Now, decision: Decision<C>) {
        for event in decision.events {
            self.core.replay(&event);
            self.events.push(event);
        }
        for change in decision.timers {
            self.timers.change(now.on_steady_clock(change));
        }
        for (token, reply) in decision.replies {
            if let Some(caller) = self.held.remove(&token) {
                self.answers.push((caller, reply));
            }
        }
    }

    /// Appends what `work` decided. Its replies leave when everything so far is durable.
    fn carry_out_all(&mut self, work: impl FnOnce(&mut Self), now: Now) -> Result<(), ()> {
        work(self);
        let events = std::mem::take(&mut self.events);
        let appended = self.journal.append(now.wall_ms, &events);
        let answers = std::mem::take(&mut self.answers);
        match appended {
            Ok(Some(pending)) => {
                let deadline_ms = now.steady_ms.saturating_add(self.write_timeout_ms);
                self.in_flight.push_back(InFlight { pending, deadline_ms, answers });
            }
            Ok(None) => match self.in_flight.back_mut() {
                Some(last) => last.answers.extend(answers),
                None => answer_all(answers),
            },
            Err(code) => {
                refuse_all(answers, code);
                return Err(());
            }
        }
        Ok(())
    }

    /// When something is to be done next.
    fn next_deadline(&self, has_room: bool, steady_ms: i64) -> Option<i64> {
        let timer = self.timers.next_deadline().filter(|_| has_room);
        let asks = |append: &&InFlight<C>| !append.answers.is_empty();
        let answer = self.in_flight.iter().find(asks).map(|append| append.deadline_ms);
        let stall = self.in_flight.front().map(|append| append.deadline_ms);
        let stall = stall.filter(|deadline_ms| !has_room && *deadline_ms > steady_ms);
        timer.into_iter().chain(answer).chain(stall).min()
    }

    /// Tells those who waited for too long. What they wrote may be committed later.
    fn time_out(&mut self, now: Now) {
        for append in self.in_flight.iter_mut().take_while(|append| append.deadline_ms <= now.steady_ms) {
            refuse_all(std::mem::take(&mut append.answers), ErrorCode::CoordinatorNotAvailable);
        }
    }

    fn answer_first(&mut self) {
        if let Some(first) = self.in_flight.pop_front() {
            answer_all(first.answers);
        }
    }

    fn fail_first(&mut self, code: ErrorCode) {
        self.failed = Some(code);
        if let Some(first) = self.in_flight.pop_front() {
            refuse_all(first.answers, code);
        }
    }

    /// Waits for what is under way, no longer than callers do, and tells everybody how it ended.
    async fn close(mut self, code: ErrorCode) {
        while let Some(first) = self.in_flight.pop_front() {
            let result = tokio::select! {
                biased;
                result = first.pending => result,
                () = self.clock.sleep_until(first.deadline_ms) => Err(ErrorCode::CoordinatorNotAvailable),
            };
            self.failed = self.failed.or(result.err());
            match self.failed {
                None => answer_all(first.answers),
                Some(code) => refuse_all(first.answers, code),
            }
        }
        for caller in self.held.into_values() {
            let _ = caller.send(Err(code));
        }
    }
}

fn answer_all<C: Send, R>(answers: Vec<(oneshot::Sender<Result<C, R>>, C)>) {
    for (caller, reply) in answers {
        // A caller that has given up does not need its answer.
        let _ = caller.send(Ok(reply));
    }
}

fn refuse_all<C: Send>(answers: Vec<(oneshot::Sender<Result<C, ErrorCode>>, C)>, code: ErrorCode) {
    for (caller, _) in answers {
        let _ = caller.send(Err(code));
    }
}
