/* Faults of sensors and of time, injected into tfsac_policy_step. For a policy.h that remembers. */
#ifndef TFSAC_FAULTS_H
#define TFSAC_FAULTS_H

#include "policy.h"

#define TFSAC_POLICY_FAULTS 8

/* One fault after five sound steps: whether it is told, and the command is the safe one in the same period. */
static inline int tfsac_policy_fault_is_safe(int fault)
{
    static const tfsac_policy_status expected[TFSAC_POLICY_FAULTS] = {
        TFSAC_POLICY_NOT_FINITE, TFSAC_POLICY_NOT_FINITE, TFSAC_POLICY_NOT_FINITE, TFSAC_POLICY_OUT_OF_RANGE,
        TFSAC_POLICY_OUT_OF_RANGE, TFSAC_POLICY_STALE, TFSAC_POLICY_LATE, TFSAC_POLICY_LATE};
    tfsac_policy_state state;
    tfsac_policy_status status = TFSAC_POLICY_OK;
    float sensors[TFSAC_SENSOR_DIM];
    float action[TFSAC_ACTION_DIM];
    float seconds = 0.0f;
    int safe = 1;
    const int last = TFSAC_SENSOR_DIM - 1;

    tfsac_policy_reset(&state);
    state.slew = 1.0f;
    state.latest = 1.0f;
    state.stale_steps = 3;
    for (int j = 0; j < TFSAC_ACTION_DIM; j++) state.safe[j] = tfsac_policy_action_low[j]; /* what no mean gives */
    for (int n = 0; n < 5; n++) {
        for (int i = 0; i < TFSAC_SENSOR_DIM; i++) {
            const float share = 0.5f + 0.05f * (float)n;
            sensors[i] = state.low[i] + share * (state.high[i] - state.low[i]);
        }
        if (tfsac_policy_step(&state, sensors, 0.0f, action) != TFSAC_POLICY_OK) safe = 0;
    }
    switch (fault) {
        case 0: sensors[last] = NAN; break;
        case 1: sensors[last] = INFINITY; break;
        case 2: sensors[0] = -INFINITY; break;
        case 3: sensors[last] = state.high[last] + 0.01f * (state.high[last] - state.low[last]); break;
        case 4: sensors[0] = state.low[0] - 0.01f * (state.high[0] - state.low[0]); break;
        case 5: status = tfsac_policy_step(&state, sensors, 0.0f, action); break; /* twice the same; then thrice */
        case 6: seconds = 1.5f; break;
        default: seconds = NAN; break;
    }
    if (status != TFSAC_POLICY_OK) safe = 0;
    status = tfsac_policy_step(&state, sensors, seconds, action);
    if (status != expected[fault]) safe = 0;
    for (int j = 0; j < TFSAC_ACTION_DIM; j++) {
        const float wrong = action[j] - state.safe[j];
        const float allowed = 1e-5f * tfsac_policy_action_half[j];
        if (!(wrong <= allowed && wrong >= -allowed)) safe = 0;
    }
    return safe;
}

/* How many faults are not told or do not bring the safe action. */
static inline int tfsac_policy_unsafe_faults(void)
{
    int unsafe = 0;
    for (int fault = 0; fault < TFSAC_POLICY_FAULTS; fault++) unsafe += !tfsac_policy_fault_is_safe(fault);
    return unsafe;
}

#endif
