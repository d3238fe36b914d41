/* Algorithm 1 of arXiv:1807.04938 with deviations D1 to D8 of docs/consensus.md, four
 * validators of which the last lies, one height, round by round.
 *
 * What is left out: rounds are entered together, and what arrives in a round arrives
 * in its phase or, for quorums that need the liar's vote, after the step that waits for
 * it. In rounds before CALM the adversary may lose any message; from then on what one
 * correct validator says all correct ones hear, as after GST. The liar may say something
 * else to each listener in all rounds, assemble every quorum that exists, and show it to
 * whom it likes.
 *
 * -DROUNDS=n     rounds of the height
 * -DCALM_MAX=n   the network may lose messages in up to n rounds; a run chooses how many
 * -DBOUND=n      somebody must decide within n rounds of calm
 * -DNO_GOSSIP    quorums are not passed on (D1 alone): the liar can lend its vote
 * -DNO_LOCK      a planted bug: line 22 ignores the lock
 * -DNO_PROOF     a planted bug: line 28 believes the valid round without prevotes
 * -DMAJORITY     a planted bug: two of four are a quorum
 */

#ifndef ROUNDS
#define ROUNDS 6
#endif
#ifndef CALM_MAX
#define CALM_MAX 0
#endif
#ifndef BOUND
#define BOUND ROUNDS
#endif
#ifdef MAJORITY
#define QUORUM 2
#else
#define QUORUM 3
#endif

#define HONEST 3                     /* validators 0, 1, 2; 3 lies */
#define LIAR 3
#define NONE 0
#define FRESH(r, variant) (1 + 2 * (r) + (variant))
#define VALUES (2 * ROUNDS + 1)

byte round;                          /* of all of them */
byte calm;                           /* first round in which nothing is lost */
byte first;                          /* leader of round 0 */
byte locked[HONEST];                 /* lockedValue, NONE if there is none */
byte locked_at[HONEST];              /* lockedRound + 1 */
byte valid[HONEST];                  /* validValue */
byte valid_at[HONEST];               /* validRound + 1 */
byte awaited[HONEST];                /* block of a quorum that is held without it */
byte awaited_at[HONEST];
byte polka[ROUNDS];                  /* for what a quorum of prevotes exists */
byte holders[VALUES];                /* who holds a block, a bit for each */
byte chosen;                         /* for what a quorum of precommits may exist */
bool decided;

byte offer[HONEST];           /* of this round: block */
byte relied[HONEST];          /*   and its valid round + 1 */
byte prevote[HONEST];
byte precommit[HONEST];
byte in_time[HONEST];         /* holds this round's quorum: 2 before its timeout */
byte i, j, k, leader, value, reason, votes, seen, best, best_at;

#define BIT(n) (1 << (n))

/* Whether a message of one correct validator to another arrives. */
inline maybe_lost(got) {
    got = 1;
    if
    :: round < calm -> got = 0
    :: true
    fi
}

/* Lines 11 to 21. */
inline propose() {
    leader = (first + round) % 4;
    i = 0;
    do
    :: i == HONEST -> break
    :: else ->
        offer[i] = NONE; relied[i] = 0;
        if
        :: leader == LIAR ->
            if
            :: true                                     /* nothing to this one */
            :: offer[i] = FRESH(round, 0)
            :: offer[i] = FRESH(round, 1)
            :: round >= 4 -> offer[i] = FRESH(round - 4, 0)
            :: round > 0 ->
                select(k : 0 .. ROUNDS - 1);
                if
                :: k < round && polka[k] != NONE ->     /* D1: it shows the prevotes */
                    offer[i] = polka[k]; relied[i] = k + 1
#ifdef NO_PROOF
                :: k < round && polka[k] == NONE ->
                    offer[i] = FRESH(k, 0); relied[i] = k + 1
                :: k + 1 < round -> offer[i] = FRESH(k, 0); relied[i] = round
#endif
                :: else
                fi
            fi
        :: else ->
            k = 1;
            if
            :: i != leader -> maybe_lost(k)
            :: else
            fi;
            if
            :: k && valid[leader] != NONE ->
                offer[i] = valid[leader]; relied[i] = valid_at[leader]
            :: k && valid[leader] == NONE -> offer[i] = FRESH(round, 0)
            :: else
            fi
        fi;
        if
        :: offer[i] != NONE -> holders[offer[i]] = holders[offer[i]] | BIT(i)
        :: else
        fi;
        i++
    od
}

/* Lines 22 to 33; without a proposal line 57. */
inline cast_prevotes() {
    i = 0;
    do
    :: i == HONEST -> break
    :: else ->
        prevote[i] = NONE;
        if
        :: offer[i] == NONE
        :: offer[i] != NONE && relied[i] == 0 &&
#ifdef NO_LOCK
            true
#else
            (locked_at[i] == 0 || locked[i] == offer[i])
#endif
            -> prevote[i] = offer[i]
        :: offer[i] != NONE && relied[i] > 0 &&
            (locked_at[i] <= relied[i] || locked[i] == offer[i]) ->
            prevote[i] = offer[i]
        :: else
        fi;
        i++
    od
}

/* What a quorum may be for: equal prevotes for the same reason (D2), and the liar's. */
inline count_prevotes() {
    value = NONE; reason = 0; votes = 0;
    i = 0;
    do
    :: i == HONEST -> break
    :: else ->
        k = 0; j = 0;
        do
        :: j == HONEST -> break
        :: else ->
            k = k + (prevote[j] != NONE && prevote[j] == prevote[i] &&
                     relied[j] == relied[i]);
            j++
        od;
        if
        :: k + 1 >= QUORUM && k > votes ->
            value = prevote[i]; reason = relied[i]; votes = k
        :: else
        fi;
        i++
    od;
    if
    :: value != NONE -> polka[round] = value
    :: else
    fi
}

/* Who sees the quorum, by votes or as a certificate, and whether before its timeout. */
inline see_prevotes() {
    seen = 0;
    i = 0;
    do
    :: i == HONEST -> break
    :: else ->
        in_time[i] = 0;
        if
        :: value == NONE
        :: value != NONE && round >= calm && votes >= QUORUM -> in_time[i] = 2
        :: value != NONE && !(round >= calm && votes >= QUORUM) ->
            if
            :: true                                     /* the liar lends it nothing */
            :: in_time[i] = 1
            :: in_time[i] = 2
            fi
        fi;
        seen = seen + (in_time[i] > 0);
        i++
    od;
#ifndef NO_GOSSIP
    /* Whoever holds it passes it on; when it comes is the adversary's choice. */
    i = 0;
    do
    :: i == HONEST -> break
    :: else ->
        if
        :: seen > 0 && in_time[i] == 0 && round >= calm ->
            if
            :: in_time[i] = 1
            :: in_time[i] = 2
            fi
        :: else
        fi;
        i++
    od
#endif
}

/* Lines 36 to 46 and 61; D8 for what is late. */
inline cast_precommits() {
    i = 0;
    do
    :: i == HONEST -> break
    :: else ->
        precommit[i] = NONE;
        if
        :: in_time[i] == 2 && offer[i] == value && relied[i] == reason ->
            locked[i] = value; locked_at[i] = round + 1;
            valid[i] = value; valid_at[i] = round + 1;
            precommit[i] = value
        :: in_time[i] > 0 && !(in_time[i] == 2 && offer[i] == value &&
                               relied[i] == reason) ->
            if
            :: (holders[value] & BIT(i)) ->
                valid[i] = value; valid_at[i] = round + 1
#ifndef NO_GOSSIP
            :: !(holders[value] & BIT(i)) ->
                awaited[i] = value; awaited_at[i] = round + 1
#endif
            :: else
            fi
        :: else
        fi;
        assert(locked_at[i] <= valid_at[i]);
        i++
    od
}

/* Lines 47 to 54, and D6: who decides convinces all. */
inline decide() {
    k = 0; i = 0; j = NONE;
    do
    :: i == HONEST -> break
    :: else ->
        if
        :: precommit[i] != NONE -> k++; j = precommit[i]
        :: else
        fi;
        i++
    od;
    if
    :: k + 1 >= QUORUM ->
        assert(chosen == NONE || chosen == j);          /* agreement */
        chosen = j;
        if
        :: k >= QUORUM && round >= calm -> decided = true
        :: true && !(k >= QUORUM && round >= calm)      /* withheld or lost */
        :: decided = true
        fi
    :: else
    fi
}

/* Repair between the rounds of a calm network. */
inline end_round() {
#ifndef NO_GOSSIP
    if
    :: round >= calm ->
        best = NONE; best_at = 0;
        i = 0;
        do
        :: i == HONEST -> break
        :: else ->
            if                                          /* a block that is a round late */
            :: awaited_at[i] > 0 && awaited_at[i] <= round ->
                holders[awaited[i]] = holders[awaited[i]] | BIT(i);
                if
                :: awaited_at[i] > valid_at[i] ->
                    valid[i] = awaited[i]; valid_at[i] = awaited_at[i]
                :: else
                fi;
                awaited[i] = NONE; awaited_at[i] = 0
            :: else
            fi;
            if
            :: valid_at[i] > best_at -> best = valid[i]; best_at = valid_at[i]
            :: else
            fi;
            i++
        od;
        i = 0;
        do
        :: i == HONEST -> break
        :: else ->
            if
            :: best_at > valid_at[i] && (holders[best] & BIT(i)) ->
                valid[i] = best; valid_at[i] = best_at
            :: best_at > valid_at[i] && !(holders[best] & BIT(i)) ->
                awaited[i] = best; awaited_at[i] = best_at
            :: else
            fi;
            i++
        od
    :: else
    fi;
#endif
    i = 0;
    do
    :: i == HONEST -> break
    :: else ->
        offer[i] = NONE; relied[i] = 0; prevote[i] = NONE; precommit[i] = NONE;
        in_time[i] = 0; i++
    od;
    i = 0; j = 0; k = 0; value = NONE; reason = 0; votes = 0; seen = 0;
    best = NONE; best_at = 0; leader = 0
}

init {
    select(first : 0 .. 3);
    select(calm : 0 .. CALM_MAX);
    do
    :: decided || round == ROUNDS -> break
    :: else ->
        atomic {
            propose();
            cast_prevotes();
            count_prevotes();
            see_prevotes();
            cast_precommits();
            decide();
            end_round();
            /* Liveness: calm that lasts BOUND rounds ends the height. */
            assert(decided || round + 1 < calm + BOUND);
            round++
        }
    od
}
