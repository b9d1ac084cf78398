"""TF-Agents' SAC as a peer, for speed alone; the protocol stands in peer.py.

    python3.11 -m venv tf-agents
    tf-agents/bin/pip install -r benchmarks/peers/requirements-tf-agents.txt
    tf-agents/bin/python benchmarks/peers/tf_agents_peer.py serve --env_id=Reacher-v5 --threads=1 --block=8

Follows tf_agents/agents/sac/examples/v2/train_eval.py, but for these:
- Batches come of the replay's get_next (deprecated, but there) inside the compiled update, without the example's
  filter, element by element, of the pairs across two episodes. What was learned was not looked at.
- `block` gradient steps are one call, as in tf_agents.train.learner.
- The replay holds 100,000 steps. Of tfsac's settings it takes widths, learning rates, tau, discount and batch size.
"""

import os

import peer

REPLAY_CAPACITY = 100_000


def build(env, options):
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "2"
    import numpy as np
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(options.threads)
    tf.config.threading.set_inter_op_parallelism_threads(options.threads)
    from tf_agents.agents.ddpg.critic_network import CriticNetwork
    from tf_agents.agents.sac.sac_agent import SacAgent
    from tf_agents.agents.sac.tanh_normal_projection_network import TanhNormalProjectionNetwork
    from tf_agents.drivers.dynamic_step_driver import DynamicStepDriver
    from tf_agents.environments.py_environment import PyEnvironment
    from tf_agents.environments.tf_py_environment import TFPyEnvironment
    from tf_agents.networks.actor_distribution_network import ActorDistributionNetwork
    from tf_agents.policies.greedy_policy import GreedyPolicy
    from tf_agents.policies.py_tf_eager_policy import PyTFEagerPolicy
    from tf_agents.policies.random_tf_policy import RandomTFPolicy
    from tf_agents.replay_buffers.tf_uniform_replay_buffer import TFUniformReplayBuffer
    from tf_agents.specs.array_spec import BoundedArraySpec
    from tf_agents.trajectories import time_step as ts
    from tf_agents.utils import common

    tf.random.set_seed(options.seed)

    class Environment(PyEnvironment):
        """TF-Agents knows gym, not gymnasium."""

        def observation_spec(self):
            box = env.observation_space
            return BoundedArraySpec(box.shape, np.float32, box.low.astype(np.float32), box.high.astype(np.float32))

        def action_spec(self):
            box = env.action_space
            return BoundedArraySpec(box.shape, np.float32, box.low, box.high)

        def _reset(self):
            return ts.restart(env.reset()[0].astype(np.float32))

        def _step(self, action):
            observation, reward, terminated, truncated, _ = env.step(action)
            observation, reward = observation.astype(np.float32), np.float32(reward)
            if terminated:
                return ts.termination(observation, reward)  # a discount of 0
            return ts.truncation(observation, reward) if truncated else ts.transition(observation, reward)

    collect_env = TFPyEnvironment(Environment(handle_auto_reset=True))
    time_step_spec, action_spec = collect_env.time_step_spec(), collect_env.action_spec()
    observation_spec = time_step_spec.observation
    settings = options.settings or {}

    def adam(name):
        return tf.compat.v1.train.AdamOptimizer(settings.get(f"SAC.{name}_learning_rate", 3e-4))

    agent = SacAgent(
        time_step_spec,
        action_spec,
        actor_network=ActorDistributionNetwork(
            observation_spec,
            action_spec,
            fc_layer_params=settings.get("SAC.policy_hidden_units", (256, 256)),
            continuous_projection_net=TanhNormalProjectionNetwork,
        ),
        critic_network=CriticNetwork(
            (observation_spec, action_spec),
            joint_fc_layer_params=settings.get("SAC.critic_hidden_units", (256, 256)),
            kernel_initializer="glorot_uniform",
            last_kernel_initializer="glorot_uniform",
        ),
        actor_optimizer=adam("policy"),
        critic_optimizer=adam("q"),
        alpha_optimizer=adam("alpha"),
        target_update_tau=settings.get("SAC.tau", 0.005),
        gamma=settings.get("SAC.discount", 0.99),
        td_errors_loss_fn=tf.math.squared_difference,
        train_step_counter=tf.compat.v1.train.get_or_create_global_step(),
    )
    agent.initialize()
    replay = TFUniformReplayBuffer(agent.collect_data_spec, batch_size=1, max_length=REPLAY_CAPACITY)
    batch_size = settings.get("train.batch_size", 256)

    def driver(policy, steps):
        found = DynamicStepDriver(collect_env, policy, observers=[replay.add_batch], num_steps=steps)
        found.run = common.function(found.run)
        return found

    random_driver = driver(RandomTFPolicy(time_step_spec, action_spec), options.start_steps)
    collect_driver = driver(agent.collect_policy, options.block)
    # As in tf_agents.train.learner: autograph turns the loop here, and is kept out of the agent.
    train = tf.autograph.experimental.do_not_convert(agent.train)

    @common.function(autograph=True)
    def update():
        for _ in tf.range(options.block):
            train(replay.get_next(batch_size, num_steps=2)[0])

    class Agent:
        def __init__(self):
            self.env, self.steps = env, 0
            self.policy = PyTFEagerPolicy(GreedyPolicy(agent.policy), use_tf_function=True, batch_time_steps=False)

        def train(self, steps):
            if not self.steps:
                random_driver.run()
            else:
                for _ in range(steps // options.block):
                    collect_driver.run()
                    update()
            self.steps += steps

        def update(self, steps):
            for _ in range(steps // options.block):
                update()

        def predict(self, observations):
            time_step = ts.restart(observations.astype(np.float32), batch_size=len(observations))
            return self.policy.action(time_step).action.numpy()

    return Agent()


if __name__ == "__main__":
    peer.main(build, ["tf-agents", "tensorflow"], learns=False)
