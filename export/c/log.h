/* The last steps of a policy.h that remembers, in a ring: what run_policy.py --log writes, for a device without files.
 * Print it as CSV, a line of names first, then `python -m tfsac.stress --device_log` reads it.
 * In a program of two policies include both policy.h before the two of this. */
#ifndef TFSAC_LOG_H
#define TFSAC_LOG_H

#include "policy.h"

#ifndef TFSAC_LOG_STEPS
#define TFSAC_LOG_STEPS 32
#endif

typedef struct {
    float seconds;
    float sensors[TFSAC_SENSOR_DIM];
    float action[TFSAC_ACTION_DIM];
} tfsac_policy_log_row;

typedef struct {
    tfsac_policy_log_row rows[TFSAC_LOG_STEPS];
    unsigned long count; /* of all steps since the start; begin with 0 */
} tfsac_policy_log;

static inline void tfsac_policy_log_add(tfsac_policy_log *log, float seconds, const float *sensors, const float *action)
{
    tfsac_policy_log_row *row = &log->rows[log->count++ % TFSAC_LOG_STEPS];
    row->seconds = seconds;
    for (int i = 0; i < TFSAC_SENSOR_DIM; i++) row->sensors[i] = sensors[i];
    for (int j = 0; j < TFSAC_ACTION_DIM; j++) row->action[j] = action[j];
}

/* How many steps it holds, and one of them; number 0 is the oldest. */
static inline unsigned long tfsac_policy_log_size(const tfsac_policy_log *log)
{
    return log->count < TFSAC_LOG_STEPS ? log->count : TFSAC_LOG_STEPS;
}

static inline const tfsac_policy_log_row *tfsac_policy_log_get(const tfsac_policy_log *log, unsigned long number)
{
    return &log->rows[(log->count - tfsac_policy_log_size(log) + number) % TFSAC_LOG_STEPS];
}

#endif
