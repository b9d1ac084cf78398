/* policy.h in closed loop on a Cortex-M4F: encoder counts come in over the serial line, volts go out.
 *
 * From the host, each a letter: 'r' forgets the past; 's', then two int16, the counts of arm and pendulum, and a uint16,
 * the microseconds since the last step, makes a step, answered by a byte of status and a float of volts; 'l' is answered
 * by the log, a uint16 of rows and the rows; 'i' by four uint32: steps, ticks of the system timer in them, stack bytes
 * of a step, RAM bytes of the policy's state; 'q' ends the program. All little-endian.
 *
 * demo.py is the host. The serial line is that of QEMU's mps2-an386: for a board of yours, write its own here. */
#include "cortex_m4.h"
#define TFSAC_LOG_STEPS 50
#include "log.h"

#define UART ((volatile uint32_t *)0x40004000) /* CMSDK: data, state, control, interrupts, divider */
#define SYSTICK ((volatile uint32_t *)0xe000e010)

static tfsac_policy_state state;
static tfsac_policy_log history;

static uint8_t receive(void)
{
    while (!(UART[1] & 2u)) {}
    return (uint8_t)UART[0];
}

static uint32_t receive16(void)
{
    const uint32_t low = receive();
    return low | (uint32_t)receive() << 8;
}

static void send(const void *bytes, uint32_t size)
{
    for (uint32_t i = 0; i < size; i++) {
        while (UART[1] & 1u) {}
        UART[0] = ((const uint8_t *)bytes)[i];
    }
}

static __attribute__((noinline)) uint8_t step(const float *sensors, float seconds, float *action)
{
    return (uint8_t)tfsac_policy_step(&state, sensors, seconds, action);
}

static void any_step(void)
{
    const float sensors[TFSAC_SENSOR_DIM] = {0.0f};
    float action[TFSAC_ACTION_DIM];
    tfsac_policy_reset(&state);
    step(sensors, 0.0f, action);
}

static __attribute__((noinline)) int run(void)
{
    uint32_t told[4] = {0, 0, 0, sizeof state};
    float now = 0.0f;

    UART[4] = 16;
    UART[2] = 3; /* both ways */
    SYSTICK[1] = 0xffffff;
    SYSTICK[2] = 0;
    SYSTICK[0] = 5; /* the processor's clock, no interrupts */
    told[2] = stack_of(any_step);
    tfsac_policy_reset(&state);
    for (;;) {
        const uint8_t order = receive();
        if (order == 'r') {
            tfsac_policy_reset(&state);
            history.count = 0;
            now = 0.0f;
        } else if (order == 's') {
            float sensors[TFSAC_SENSOR_DIM];
            float action[TFSAC_ACTION_DIM];
            for (int i = 0; i < TFSAC_SENSOR_DIM; i++) sensors[i] = (float)(int16_t)receive16();
            const float seconds = 1e-6f * (float)receive16();
            const uint32_t before = SYSTICK[2];
            const uint8_t status = step(sensors, seconds, action);
            told[1] += (before - SYSTICK[2]) & 0xffffff; /* it counts down */
            told[0]++;
            now += seconds;
            tfsac_policy_log_add(&history, now, sensors, action);
            send(&status, 1);
            send(action, sizeof action);
        } else if (order == 'l') {
            const uint16_t rows = (uint16_t)tfsac_policy_log_size(&history);
            send(&rows, 2);
            for (unsigned long i = 0; i < rows; i++) {
                send(tfsac_policy_log_get(&history, i), sizeof(tfsac_policy_log_row));
            }
        } else if (order == 'i') {
            send(told, sizeof told);
        } else if (order == 'q') {
            return 0;
        }
    }
}
