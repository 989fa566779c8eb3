/*
 * The wake-up protocol: who creates work notifies only runners that are marked idle, and no runner
 * sleeps while there is work.  README.md says what stands for what.
 *
 * PostgreSQL as far as it matters: transaction ids given at the first write, snapshots that are
 * taken anew by each statement (READ COMMITTED) and know the ids in progress, rows that are visible
 * to a snapshot when the id that wrote them had ended by then, SKIP LOCKED, table locks that are
 * held to the end of a transaction, notifications that are sent by the commit.
 *
 * Ids are kept small: they are counted from the oldest one in progress.  What a snapshot sees never
 * changes, so it is worked out when it is taken.
 */

#ifndef CREATORS
#define CREATORS 2
#endif
#define RUNNERS 2

#define FROZEN 0   /* written by a transaction that ended long ago */
#define NONE 255   /* there is no such row */

#define bit(n) (1 << (n))

/* Ids: those in progress, the next to be given, the latest that has ended. */
int running = 0;
byte next_id = 1;
byte latest = 0;

/* The ids of the processes: creators, runners, late claims, the stranger. */
#define IDS (CREATORS + 2 * RUNNERS + 1)
byte ids[IDS];

/* Entries of the queue: who inserted, and who holds a lock on it in order to delete it. */
byte job_by[CREATORS] = NONE;
bool is_taken[CREATORS];
bool has_key_share[CREATORS]; /* a child's insert holds its parent's row */

/* Marks of idle runners. */
byte mark_by[RUNNERS] = NONE;
byte mark_writer[RUNNERS] = NONE; /* who writes it just now: another writer has to wait */
bool is_seen[RUNNERS] = true; /* heard of within its lease: else its mark does not count */

/* Transactions that hold a row-exclusive lock on the tables of the queue, one bit for each process. */
byte lockers = 0;
#define creator_bit(c) bit(c)
#define runner_bit(r) bit(CREATORS + (r))
#define late_bit(r) bit(CREATORS + RUNNERS + (r))

/* Horizons, and who was writing to the queue then. */
byte horizon[RUNNERS];
byte holders[RUNNERS];

/* The lines to the runners. */
bool is_listening[RUNNERS] = true;
bool has_notification[RUNNERS];
bool is_asleep[RUNNERS];
bool is_dead[RUNNERS];
bool is_claim_late[RUNNERS]; /* the connection broke, the server may yet do the claim */
bool is_late_begun[RUNNERS]; /* it is at it */
bool is_stalled[RUNNERS]; /* was not heard of for a lease: nothing that it knew holds */

byte creators_done = 0;
byte helpers_done = 0; /* the stranger, the stalls */

#define is_visible(by) (by != NONE && (by == FROZEN || (by <= latest && !(running & bit(by)))))
/* All ids above the latest that has ended are in progress: so this is a snapshot's xmin. */
inline lowest(into) {
  into = 1;
  do
  :: into < next_id && !(running & bit(into)) -> into++
  :: else -> break
  od
}

inline begin_writing(id) {
  id = next_id;
  running = running | bit(id);
  next_id++;
  assert(next_id < 30);
}

/* The end of a transaction: its id leaves the set; ids are counted anew. */
byte old_by, k;
inline renumber() {
  lowest(old_by);
  old_by--;
  running = running >> old_by;
  next_id = next_id - old_by;
  latest = (latest > old_by -> latest - old_by : 0);
  k = 0;
  do
  :: k < CREATORS ->
    if
    :: job_by[k] != NONE -> job_by[k] = (job_by[k] > old_by -> job_by[k] - old_by : FROZEN)
    :: else
    fi;
    k++
  :: else -> break
  od;
  k = 0;
  do
  :: k < RUNNERS ->
    if
    :: mark_by[k] != NONE -> mark_by[k] = (mark_by[k] > old_by -> mark_by[k] - old_by : FROZEN)
    :: else
    fi;
    horizon[k] = (horizon[k] > old_by -> horizon[k] - old_by : 0);
    k++
  :: else -> break
  od;
  k = 0;
  do
  :: k < IDS ->
    ids[k] = (ids[k] > old_by -> ids[k] - old_by : 0);
    k++
  :: else -> break
  od;
  old_by = 0;
  k = 0
}

inline end_writing(slot) {
  if
  :: ids[slot] ->
    running = running & ~bit(ids[slot]);
    latest = (ids[slot] > latest -> ids[slot] : latest);
    ids[slot] = 0;
    renumber()
  :: else
  fi
}

inline release_locks(who) {
  lockers = lockers & ~(who);
  holders[0] = holders[0] & ~(who);
  holders[1] = holders[1] & ~(who)
}

/* A commit sends its notifications; who does not listen gets none. */
inline notify(wanted) {
  has_notification[0] = has_notification[0] || ((wanted & 1) && is_listening[0] && !is_dead[0]);
  has_notification[1] = has_notification[1] || ((wanted & 2) && is_listening[1] && !is_dead[1])
}

inline look(wanted) {
  wanted = (is_visible(mark_by[0]) && is_seen[0]) | ((is_visible(mark_by[1]) && is_seen[1]) << 1)
}

/* Whoever makes work claimable: create_job and all that ends in _wake. */
proctype Creator(byte me) {
  byte wanted = 0;

#ifdef LOOK_IN_INSERT
  d_step { look(wanted); printf("creator %d: looks for marks, sees %d\n", me, wanted) };
#endif
  d_step {
    printf("creator %d: inserts its job\n", me);
    begin_writing(ids[me]);
    job_by[me] = ids[me];
#ifdef UNSEEN_WRITER
    if
    :: me != 0 -> lockers = lockers | creator_bit(me)
    :: else /* it enables an agent: that is another table */
    fi;
#else
    lockers = lockers | creator_bit(me);
#endif
    if
    :: me == 1 && is_visible(job_by[0]) && !is_taken[0] -> has_key_share[0] = true
    :: else
    fi
  };
#ifndef LOOK_IN_INSERT
  d_step { look(wanted); printf("creator %d: looks for marks, sees %d\n", me, wanted) };
#endif
  if
  :: d_step {
      printf("creator %d: commits, notifies %d\n", me, wanted);
      end_writing(me);
      release_locks(creator_bit(me));
      if
      :: me == 1 -> has_key_share[0] = false
      :: else
      fi;
      notify(wanted);
      creators_done++;
      wanted = 0
    }
  :: d_step {
      me == 1 ->
      printf("creator %d: rolls back\n", me);
      job_by[me] = NONE;
      end_writing(me);
      release_locks(creator_bit(me));
      if
      :: me == 1 -> has_key_share[0] = false
      :: else
      fi;
      creators_done++;
      wanted = 0
    }
  fi
}

/* One transaction that claims one job and writes the mark; several statements. */
#define is_lockable(j) (!is_taken[j])
#ifdef FOR_UPDATE
#define is_skipped(j) (is_taken[j] || has_key_share[j])
#else
#define is_skipped(j) (is_taken[j])
#endif

inline pick(slot, job, is_short) {
  /* What the snapshot saw and nobody else has locked; deleted rows are taken for good. */
  job = NONE;
  if
  :: (seen & 1) && !is_skipped(0) -> job = 0
  :: else ->
    assert(!((seen & 1) && is_lockable(0))); /* only a claim may hide a job from another */
    if
    :: (seen & 2) && !is_skipped(1) -> job = 1
    :: else
    fi
  fi;
  if
  :: job != NONE ->
    printf("slot %d: locks job %d\n", slot, job);
    begin_writing(ids[slot]);
    is_taken[job] = true;
    is_short = is_short && !((seen & 1) && !is_skipped(0)) && !((seen & 2) && !is_skipped(1))
  :: else -> is_short = true
  fi
}

/* Less than was asked for: marked, unless the runner stays awake. */
inline write_mark(slot, who, is_marking) {
  if
  :: !is_marking && mark_by[who] != NONE && mark_writer[who] == NONE ->
    if
    :: ids[slot] == 0 -> begin_writing(ids[slot])
    :: else
    fi;
    mark_writer[who] = slot
  :: is_marking && mark_by[who] == NONE ->
    if
    :: ids[slot] == 0 -> begin_writing(ids[slot])
    :: else
    fi;
    mark_by[who] = ids[slot];
    mark_writer[who] = slot
  :: else
  fi
}

inline claim_commits(slot, who, job, is_marking, lock) {
  if
  :: !is_marking -> printf("claim of runner %d (slot %d): commits, job %d, without a mark\n", who, slot, job)
  :: is_marking && mark_writer[who] == slot -> printf("claim of runner %d (slot %d): commits, job %d, marked anew\n", who, slot, job)
  :: else -> printf("claim of runner %d (slot %d): commits, job %d, marked before\n", who, slot, job)
  fi;
  if
  :: mark_writer[who] == slot ->
    mark_writer[who] = NONE;
    if
    :: !is_marking -> mark_by[who] = NONE
    :: else
    fi
  :: else
  fi;
  if
  :: job != NONE -> job_by[job] = NONE
  :: else
  fi;
  end_writing(slot);
  release_locks(lock)
}

inline claim_rolls_back(slot, who, job, is_marking, lock) {
  printf("claim of runner %d (slot %d): rolls back\n", who, slot);
  if
  :: mark_writer[who] == slot ->
    mark_writer[who] = NONE;
    if
    :: is_marking -> mark_by[who] = NONE
    :: else
    fi
  :: else
  fi;
  if
  :: job != NONE -> is_taken[job] = false
  :: else
  fi;
  end_writing(slot);
  release_locks(lock)
}

/* A claim that the server does although its runner has given up the connection. */
#define LATE(who) (CREATORS + RUNNERS + who)
proctype LateClaim(byte me) {
  byte seen = 0, job = NONE;
  bool is_short = false;

end_idle:
  d_step { is_claim_late[me] -> is_late_begun[me] = true; seen = is_visible(job_by[0]) | (is_visible(job_by[1]) << 1); lockers = lockers | late_bit(me) };
  d_step { pick(LATE(me), job, is_short); seen = 0 };
  d_step { mark_writer[me] == NONE -> write_mark(LATE(me), me, is_short) };
  if
  :: d_step { claim_commits(LATE(me), me, job, is_short, late_bit(me)); job = NONE; is_short = false; is_late_begun[me] = false; is_claim_late[me] = false }
  :: d_step { claim_rolls_back(LATE(me), me, job, is_short, late_bit(me)); job = NONE; is_short = false; is_late_begun[me] = false; is_claim_late[me] = false }
  fi
}

#define SLOT(who) (CREATORS + who)

proctype Runner(byte me) {
  byte seen = 0, job = NONE, spent = 0;
  bool is_settling = false, is_settled = false, is_claimable = false;
  bool is_short = false; /* the claim got less than it asked for */
  bool is_awake = false; /* it says that it claims again soon, whatever it gets, and is not marked */
  bool is_kept = false;  /* settled, and the mark has been there ever since */

claiming:
  /* A notification from before the claim is answered by it. */
  atomic {
    has_notification[me] = false; is_settling = false; is_settled = false; horizon[me] = 0; holders[me] = 0;
#ifndef KEPT_WHEN_STALLED
    is_kept = is_kept && !is_stalled[me];
#endif
    is_stalled[me] = false
  };

again:
#ifdef BREAKS
  if
  :: spent < BREAKS && me == 0 && !is_claim_late[me] -> /* the connection breaks just when the claim has been sent */
    d_step { printf("runner %d: the connection breaks, its claim may come late\n", me); spent++; is_claim_late[me] = true; is_listening[me] = false; has_notification[me] = false; is_settled = false };
    goto reconnecting
  :: else
  :: true
  fi;
#endif
  atomic {
    seen = is_visible(job_by[0]) | (is_visible(job_by[1]) << 1);
    lockers = lockers | runner_bit(me);
    if
    :: me == 0 && !is_settling -> is_awake = true
    :: true
    fi;
    if
    :: me == 0 && seen != 0 -> is_short = true /* asks for two */
    :: true
    fi
  };
  d_step { pick(SLOT(me), job, is_short); seen = 0 };
  d_step { mark_writer[me] == NONE -> write_mark(SLOT(me), me, (is_short && !is_awake)) };
  if
  :: d_step {
      claim_commits(SLOT(me), me, job, (is_short && !is_awake), runner_bit(me));
#ifndef KEPT_WHEN_FULL
      is_kept = is_kept && is_short;
#endif
#ifndef KEPT_AWAKE
      is_kept = is_kept && !is_awake;
#endif
      is_short = is_short && !is_awake /* from here on: the mark is there */
    }
  :: me == 1 && job != NONE -> /* it dies with a job locked, and so does its transaction */
    d_step { claim_rolls_back(SLOT(me), me, job, (is_short && !is_awake), runner_bit(me)); job = NONE; is_short = false; is_awake = false; is_kept = false; is_dead[me] = true; has_notification[me] = false; is_settled = false; horizon[me] = 0; holders[me] = 0 };
    goto dead
  fi;
  if
#ifdef NO_RESTART
  :: job != NONE && is_settling -> atomic { job = NONE; is_short = false; is_settled = false }; goto settling
#endif
#ifdef SLEEPS_UNMARKED
  :: is_awake && job == NONE -> atomic { is_awake = false; is_short = false }; goto deciding
#endif
  :: job != NONE && (is_settling || !is_short) -> atomic { job = NONE; is_short = false; is_awake = false }; goto claiming /* after it has run */
  :: job == NONE && is_awake -> atomic { is_awake = false }; goto claiming
  :: job == NONE && is_settling -> is_short = false; goto checking
  :: is_short && !is_settling -> atomic { job = NONE; is_short = false }
  fi;
  if
  :: is_kept -> goto looking
  :: else
  fi;
#ifdef NO_SETTLING
  goto deciding;
#endif
  if
  :: has_notification[me] -> goto claiming
  :: else
  fi;
  d_step {
#ifdef HORIZON_IS_XMAX
    horizon[me] = latest + 1;
#else
    horizon[me] = next_id;
    latest = next_id;
    next_id++;
#endif
    holders[me] = lockers & ~runner_bit(me);
    printf("runner %d: takes its horizon; writers then: %d\n", me, holders[me]);
    is_settling = true;
    renumber()
  };

settling:
  if
  :: has_notification[me] -> goto claiming
  :: else
  fi;
  d_step {
    lowest(k);
    is_settled = (k > horizon[me]);
    printf("runner %d: settled: %d\n", me, is_settled);
    k = 0
  };
#ifdef STRANGER
  if
  :: !is_settled && holders[me] == 0 -> printf("runner %d: nobody of then is writing any more\n", me); is_settled = true
  :: true
  fi;
#endif
  goto again;

checking:
  atomic {
#ifdef NO_RECHECK
    is_claimable = false
#else
    is_claimable = is_visible(job_by[0]) || is_visible(job_by[1])
#endif
  };
  if
  :: is_settled && !is_claimable -> is_kept = (me == 0) /* the other one is of an earlier release */
  :: else -> d_step { is_claimable = false; is_settled = false }; goto settling
  fi;

deciding:
  if
  :: atomic { has_notification[me] -> is_settled = false }; goto claiming
  :: atomic { !has_notification[me] -> printf("runner %d: sleeps\n", me); is_asleep[me] = true; is_settled = false; is_settling = false; horizon[me] = 0; holders[me] = 0 }
  fi;
  goto end_asleep;

looking:
  /* It has been marked for long: whoever it had to wait for has ended, all others see the mark. */
  if
#ifndef NO_LOOK
  :: is_visible(job_by[0]) || is_visible(job_by[1]) -> goto claiming
#endif
  :: else -> goto deciding
  fi;

end_asleep:
  if
  :: atomic { has_notification[me] -> printf("runner %d: is woken\n", me); is_asleep[me] = false }; goto claiming
#ifdef BREAKS
  :: atomic { spent < BREAKS && me == 0 -> printf("runner %d: the connection breaks in its sleep\n", me); spent++; is_asleep[me] = false; is_listening[me] = false; has_notification[me] = false }
#endif
  fi;

reconnecting:
#ifndef KEPT_WHEN_RECONNECTED
  is_kept = false;
#endif
#ifndef LATE_IS_SERVED
  /* A claim of the old connection that is just running is waited for, one that comes later refused. */
  atomic { !is_late_begun[me] -> is_claim_late[me] = false };
#endif
#ifdef NO_CLAIM_AFTER_RECONNECT
  atomic { is_listening[me] = true; is_asleep[me] = true };
  goto end_asleep;
#else
  is_listening[me] = true;
  goto claiming;
#endif

dead:
  skip
}

/* Something that has nothing to do with the queue, and takes long. */
#define STRANGER_SLOT (CREATORS + 2 * RUNNERS)
proctype Stranger() {
  d_step { begin_writing(ids[STRANGER_SLOT]) };
end_open:
  d_step { creators_done == CREATORS -> end_writing(STRANGER_SLOT) }
}

/* Runner 0 is stopped for longer than its lease, then its heartbeats go on. */
proctype Stall() {
  d_step { printf("runner 0: is stopped for longer than its lease\n"); is_seen[0] = false };
  d_step {
    printf("runner 0: goes on, its heartbeat arrives\n");
    is_seen[0] = true;
#ifndef SLEEPS_ON
    has_notification[0] = true; /* it starts over */
    is_stalled[0] = true;
#endif
    helpers_done++
  }
}

#ifdef STALL
#define HELPERS 1
#else
#define HELPERS 0
#endif

#define is_gone(r) (is_dead[r] || (is_asleep[r] && !has_notification[r]))

active proctype Monitor() {
end_watching:
  d_step {
    creators_done == CREATORS && helpers_done == HELPERS && is_gone(0) && is_gone(1) && !is_claim_late[0] ->
    assert(!is_visible(job_by[0]) && !is_visible(job_by[1]))
  }
}

init {
  atomic {
    run Runner(0);
#ifdef ONE_RUNNER
    is_dead[1] = true;
#else
    run Runner(1);
#endif
    run Creator(0);
    run Creator(1);
#ifdef BREAKS
    run LateClaim(0);
#endif
#ifdef STRANGER
    run Stranger();
#endif
#ifdef STALL
    run Stall();
#endif
  }
}
