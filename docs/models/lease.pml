/*
 * Leases: one execution of a job at a time.  Claim, renewal, self-fencing in the runner and in its
 * guardian, recovery by the server, take-over by a restarted runner.  README.md says what stands
 * for what.
 *
 * Machine 0 is the one with the faults: its runner is killed, alone or together with its guardian,
 * or stopped (SIGSTOP); its connection breaks, and what was sent on a broken one may still be
 * done by the server, late.  Time is counted in ticks, and only spans of it are used; the
 * clock of machine 0 may be slow by one of the four ticks that a lease has.
 */

#ifndef LEASES
#define LEASES 3 /* so many times the job is handed out */
#endif
#ifndef CRASHES
#define CRASHES 1
#endif
#ifndef STOPS
#define STOPS 1
#endif
#ifndef LOSSES
#define LOSSES 1
#endif

/* In ticks, from the moment the last good heartbeat was sent; the lease itself from its arrival. */
#define LEASE 4
#ifdef NO_MARGIN
#define GUARD 3
#else
#define GUARD 2
#endif
#define FENCE 2

#define PENDING 1
#define RUNNING 2
#define FINISHED 3

/* What a runner sends, and what the server answers. */
#define CLAIM 1
#define BEAT 2
#define REPORT 3
#define RECONCILE 4
#define GRANTED 1
#define KEEP 2
#define OK 3
#define LOST 4
#define NOTHING 5
#define GONE 6

/* Where a runner stands with its one job. */
#define IDLE 0
#define CLAIMED 1
#define RUNS 2
#define REPORTS 3

#define DONE 1
#define ORPHANED 2
#define FAILED 3

/* The server. */
byte status = PENDING;
byte lease = 0;
byte left = 0;   /* ticks to the end of the lease */
byte holder = 0; /* registration */
byte outcomes[LEASES + 1];

/* Registrations: new at each start of the runner on machine 0; the other runner has one. */
#define OTHER 99
byte registered = 1;

/* Lines. */
byte sent, sent_lease, sent_outcome, sent_by;
byte late, late_lease, late_outcome, late_by;
/* Which connection of the runner: as it counts them, and as the server has heard. */
byte session, sent_session, late_session, opened;
byte answer, answer_lease;
bool is_waiting;
bool must_reconcile;
byte age; /* ticks since what is waited for was sent */

/* Runners, and the executions on their machines. */
bool is_up = true;
bool is_stopped;
byte phase, mine, result;
byte fence;
byte execution[2]; /* the lease for which it was started; 0: none is alive */
bool has_exited;
bool has_stray; /* machine 0: left its group, its parents and its token */

/* The guardian of machine 0. */
bool is_guarded = true;
bool is_stand_in = false;
byte guard;

byte crashes = CRASHES, stops = STOPS, losses = LOSSES;
bool is_slow = false; /* the clock of machine 0 has lost its tick */

#define minus(a, b) ((a) > (b) -> (a) - (b) : 0)

inline end_lease(outcome) {
  printf("server: lease %d has ended\n", lease);
  assert(status == RUNNING); /* a finished job stays finished */
  outcomes[lease]++;
  assert(outcomes[lease] == 1); /* one outcome for each lease */
  status = (outcome == DONE -> FINISHED : PENDING);
  holder = 0;
  left = 0
}

#define is_held(l, r) (status == RUNNING && lease == l && holder == r)
#ifdef REPORT_BY_NAME
#define is_reportable(l, r) (status == RUNNING && holder != OTHER)
#else
#ifdef REPORT_BY_ATTEMPT
#define is_reportable(l, r) (status == RUNNING) /* all were interrupted: the number came back */
#else
#define is_reportable(l, r) is_held(l, r)
#endif
#endif

/* Claims and reconciles that come late, on a connection that has been replaced, are refused. */
#ifdef LATE_IS_SERVED
#define is_current(n) true
#else
#define is_current(n) (n >= opened)
#endif

inline serve(kind, of_lease, of_outcome, by, of_session, back, back_lease) {
  /* What the server does with a message, in one transaction. */
  back = NOTHING;
  opened = (of_session > opened -> of_session : opened);
  back_lease = of_lease;
  if
  :: kind == CLAIM && is_current(of_session) ->
    if
    :: by != registered -> back = GONE
    :: by == registered && status == PENDING && lease < LEASES ->
      assert(lease == 0 || outcomes[lease] == 1);
      status = RUNNING;
      lease++;
      holder = by;
      left = LEASE;
      back = GRANTED;
      back_lease = lease;
      printf("server: grants lease %d to runner 0\n", lease)
    :: else
    fi
  :: kind == BEAT ->
    if
    :: is_held(of_lease, by) -> left = LEASE; back = KEEP
    :: else -> back = LOST
    fi
  :: kind == REPORT ->
    if
    :: is_reportable(of_lease, by) ->
      assert(of_lease == lease); /* an outcome is that of the execution that had it */
      end_lease(of_outcome)
    :: else /* the same again, or too late */
    fi;
    back = OK
  :: kind == RECONCILE && is_current(of_session) ->
    if
    :: status == RUNNING && holder == by && lease != of_lease -> end_lease(ORPHANED)
    :: else
    fi;
    back = OK
  :: else
  fi
}

byte nowhere, nothing;

active proctype Server() {
end_serving:
  do
  :: d_step {
      sent ->
      serve(sent, sent_lease, sent_outcome, sent_by, sent_session, answer, answer_lease);
      sent = 0; sent_lease = 0; sent_outcome = 0; sent_by = 0; sent_session = 0
    }
  :: d_step {
      late ->
      serve(late, late_lease, late_outcome, late_by, late_session, nowhere, nothing);
      late = 0; late_lease = 0; late_outcome = 0; late_by = 0; late_session = 0; nowhere = 0; nothing = 0
    }
#ifndef NO_SWEEP
  :: d_step {
      status == RUNNING && left == 0 ->
      printf("server: lease %d has run out\n", lease);
      end_lease(ORPHANED)
    }
#endif
  od
}

inline kill_execution() {
  execution[0] = 0;
  has_exited = false;
  has_stray = false;
  guard = 0
}

inline send(kind) {
  sent = kind;
  sent_lease = mine;
  sent_outcome = (kind == REPORT -> result : 0);
  sent_by = registered;
  sent_session = session;
  is_waiting = true;
  age = 0
}

inline forget() {
  phase = IDLE;
  mine = 0;
  result = 0;
  fence = 0
}

inline base() {
  /* From when the deadlines count. */
#ifdef FROM_ANSWER
  fence = FENCE;
  guard = GUARD
#else
  fence = minus(FENCE, age);
  guard = minus(GUARD, age)
#endif
}

#define can_act (is_up && !is_stopped)
#ifdef LIVENESS
/* Fairness is between processes: a runner may not beat for ever and never start the program. */
#define is_beating phase == RUNS && execution[0]
#else
#define is_beating (phase == RUNS && execution[0]) || phase == CLAIMED
#endif
#define is_fenced (phase == RUNS && fence == 0)

active proctype Runner() {
end_running:
  do
  /* -- what it sends */
  :: d_step { can_act && must_reconcile && !is_waiting -> printf("runner 0: connects, reconciles, holding lease %d\n", mine); send(RECONCILE) }
  :: d_step {
      can_act && phase == IDLE && !must_reconcile && !is_waiting && status == PENDING && lease < LEASES ->
      send(CLAIM)
    }
  :: d_step {
      can_act && (is_beating) && !must_reconcile && !is_waiting && age > 0 ->
      printf("runner 0: sends a heartbeat\n");
      send(BEAT)
    }
  :: d_step {
      can_act && phase == REPORTS && !must_reconcile && !is_waiting ->
      printf("runner 0: reports the end under lease %d\n", mine);
      send(REPORT)
    }
  /* -- what it hears */
  :: d_step {
      can_act && answer ->
      if
      :: answer == GRANTED ->
        printf("runner 0: has lease %d\n", answer_lease);
        mine = answer_lease;
        phase = CLAIMED;
        base()
      :: answer == KEEP && phase == RUNS && execution[0] -> printf("runner 0: hears that it is renewed\n"); base()
      :: answer == KEEP && phase == CLAIMED -> base()
      :: answer == LOST && (phase == RUNS || phase == CLAIMED) ->
        printf("runner 0: lease %d is lost, kills\n", mine);
        kill_execution();
        forget()
      :: answer == OK && phase == REPORTS && !must_reconcile -> forget()
      :: answer == GONE -> skip
      :: else
      fi;
      if
      :: must_reconcile && answer == OK -> must_reconcile = false
      :: else
      fi;
      answer = 0;
      answer_lease = 0;
      is_waiting = false;
      age = 0
    }
  /* -- the connection breaks: what was under way may be done late, or not at all */
  :: d_step {
      can_act && is_waiting && losses > 0 && (!sent || !late) ->
      losses--;
      if
      :: sent -> late = sent; late_lease = sent_lease; late_outcome = sent_outcome; late_by = sent_by; late_session = sent_session;
        printf("runner 0: its connection breaks, message %d is still on its way\n", sent)
      :: else -> printf("runner 0: its connection breaks, an answer is lost\n")
      fi;
      sent = 0; sent_lease = 0; sent_outcome = 0; sent_by = 0; sent_session = 0;
      answer = 0; answer_lease = 0;
      is_waiting = false;
      age = 0;
      session++;
      must_reconcile = true
    }
  /* -- or never */
  :: d_step { late -> late = 0; late_lease = 0; late_outcome = 0; late_by = 0; late_session = 0 }
  /* -- the execution */
  :: d_step {
      can_act && phase == CLAIMED ->
      if
#ifndef SPAWN_UNCHECKED
      :: fence == 0 -> phase = REPORTS; result = ORPHANED
      :: else ->
#else
      :: true ->
#endif
        printf("runner 0: starts the job under lease %d\n", mine);
        assert(execution[0] == 0 && execution[1] == 0); /* never two executions */
        execution[0] = mine;
        phase = RUNS
      fi
    }
  :: d_step {
      can_act && is_fenced && execution[0] ->
      printf("runner 0: fences itself\n");
      kill_execution();
      phase = REPORTS;
      result = ORPHANED
    }
  :: d_step {
      can_act && phase == RUNS && execution[0] == 0 ->
      printf("runner 0: finds that the program has ended\n");
      /* It has ended by itself, or its guardian has killed it. */
      phase = REPORTS;
      result = (has_exited -> DONE : ORPHANED);
      has_exited = false
    }
  od
}

/* Another machine, on which nothing goes wrong. */
active proctype Other() {
  byte its_lease = 0;

end_running:
  do
  :: d_step {
      its_lease == 0 && status == PENDING && lease < LEASES ->
      assert(lease == 0 || outcomes[lease] == 1);
      status = RUNNING;
      lease++;
      holder = OTHER;
      left = LEASE;
      its_lease = lease;
      printf("runner 1: starts the job under lease %d\n", lease);
      assert(execution[0] == 0 && execution[1] == 0);
      execution[1] = lease
    }
  :: d_step {
      its_lease != 0 && !(is_held(its_lease, OTHER)) -> its_lease = 0; execution[1] = 0
    }
  :: d_step {
      its_lease != 0 && is_held(its_lease, OTHER) ->
      execution[1] = 0;
      its_lease = 0;
      if
      :: end_lease(DONE)
      :: end_lease(FAILED)
      fi
    }
  od
}

/* The programs: they end, and may leave something behind that only descent can find. */
active proctype Program() {
end_working:
  do
  :: d_step { execution[0] -> execution[0] = 0; has_stray = false; guard = 0; has_exited = is_up }
#ifndef GUARDIAN_DIES
  :: d_step { execution[0] && !has_stray -> has_stray = true }
#endif
  od
}

#ifdef NO_GUARD_DEADLINE
#define is_overdue false
#else
#define is_overdue (is_guarded && execution[0] && guard == 0)
#endif
#define has_to_clean (is_guarded && !is_up)

active proctype Guardian() {
end_guarding:
  do
  :: d_step { is_overdue -> printf("guardian: the deadline is over, kills\n"); kill_execution() }
  :: d_step {
      has_to_clean ->
      if
#ifdef GUARDIAN_IS_CHILD
      :: execution[0] && has_stray -> printf("guardian: sees no stray of the dead runner\n")
#endif
      :: else -> kill_execution()
      fi;
      printf("guardian: cleans up and ends\n");
      is_guarded = false
    }
  od
}

/* Who is dead says nothing more; what it has sent may still arrive. */
bool is_for_good = false;
inline dies() {
  is_up = false;
#ifdef LIVENESS
  if
  :: is_for_good = true
  :: true
  fi;
#endif
  is_stopped = false;
  if
  :: sent && !late -> late = sent; late_lease = sent_lease; late_outcome = sent_outcome; late_by = sent_by; late_session = sent_session
  :: else
  fi;
  sent = 0; sent_lease = 0; sent_outcome = 0; sent_by = 0; sent_session = 0;
  answer = 0; answer_lease = 0;
  is_waiting = false;
  must_reconcile = false;
  has_exited = false;
  age = 0;
  session++;
  forget()
}

byte starts = 0;

active proctype Faults() {
end_quiet:
  do
  :: atomic { crashes > 0 && is_up -> crashes--; printf("runner 0: is killed\n"); dies() }
  :: atomic {
      crashes > 0 && is_up ->
      crashes--;
      printf("runner 0: is killed together with its guardian\n");
      dies();
      is_guarded = false;
#ifndef NO_KERNEL
      kill_execution() /* by the kernel: a cgroup, a pid namespace */
#endif
    }
#ifdef GUARDIAN_DIES
  :: d_step { crashes > 0 && can_act && is_guarded -> crashes--; printf("guardian: is killed\n"); is_guarded = false }
  :: d_step { can_act && !is_guarded -> printf("runner 0: starts a stand-in\n"); is_guarded = true; is_stand_in = true }
#endif
  :: d_step { stops > 0 && can_act && is_guarded -> stops--; printf("runner 0: is stopped\n"); is_stopped = true }
  :: d_step { is_stopped -> printf("runner 0: goes on\n"); is_stopped = false }
  /* The lock is free when runner and guardian are gone. */
  :: d_step {
      !is_up && !is_guarded && !is_for_good ->
      kill_execution();
      starts++;
      printf("runner 0: starts again and takes over\n");
      if
      :: status == RUNNING && holder == registered -> end_lease(ORPHANED)
      :: else
      fi;
      registered = 1 + starts;
      is_up = true;
      is_guarded = true
    }
#ifdef TAKEOVER_UNPROVEN
  /* The same name is started elsewhere, and that the first is dead is only believed. */
  :: d_step {
      status == RUNNING && holder != OTHER ->
      printf("runner 1: takes over from runner 0 without proof\n");
      end_lease(ORPHANED)
    }
#endif
  od
}

/* No time passes while somebody is about to act who acts at once. */
#define is_urgent (is_overdue || has_to_clean \
  || (can_act && is_fenced && execution[0]) \
  || (can_act && !is_guarded))

active proctype Time() {
  bool is_lost = false;

end_time:
  do
  :: atomic {
      !is_urgent && (status != PENDING || execution[0] || execution[1] || is_waiting) && status != FINISHED ->
      if
      :: !is_slow -> is_slow = true; is_lost = true
      :: true
      fi;
      d_step {
        printf("  a tick\n");
        left = minus(left, 1);
        if
        :: !is_lost ->
          fence = minus(fence, 1);
          guard = minus(guard, 1);
          age = ((is_waiting || phase == RUNS || phase == CLAIMED) && age < FENCE -> age + 1 : age)
        :: else
        fi;
        /* The other runner is in good health: it renews in time. */
        left = (holder == OTHER -> LEASE : left);
        is_lost = false
      }
    }
  od
}

#ifdef LIVENESS
/* Whatever happens, a job that runs ends, or can be claimed again. */
ltl settles { [] <> (status != RUNNING) }
#endif
