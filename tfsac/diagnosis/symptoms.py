"""The symptoms of a run: how each is seen, what it usually means, what to try. Numbers are in thresholds.py."""

from typing import NamedTuple

STRONG, POSSIBLE, NOTE = "clear", "possible", "note"  # how sure a symptom is; strongest first


class Condition(NamedTuple):
    """A measure on one side of a threshold."""

    measure: str  # of measures.MEASURES
    side: str  # "above" or "below"
    threshold: str  # of thresholds.THRESHOLDS


class Symptom(NamedTuple):
    """One paragraph of docs/symptoms.md, whose heading is the title.

    Attributes:
        name: short, for programs.
        title: what is wrong, in a few words.
        level: STRONG, POSSIBLE or NOTE.
        alternatives: tuples of conditions, the most telling one first; the symptom is there if all conditions of one
            tuple hold.
        meaning: what it usually means.
        remedy: what to try.
        explains: names of symptoms that follow from this one.
    """

    name: str
    title: str
    level: str
    alternatives: tuple
    meaning: str
    remedy: str
    explains: tuple = ()

    @property
    def anchor(self):
        """Where the paragraph stands."""
        return "docs/symptoms.md#" + "".join(x for x in self.title.lower().replace(" ", "-") if x.isalnum() or x == "-")


def _above(measure, threshold=None):
    return Condition(measure, "above", threshold or measure)


def _below(measure, threshold=None):
    return Condition(measure, "below", threshold or measure)


_LEARNING = ("setback", "evaluation_gap", "q_bias", "policy_gradient_vanishes", "q_gradient_explodes", "saturated")
_STILL = (_below("q_reach"), _below("q_growth"))
_AT_MAXIMUM = (_below("entropy_gap"), _below("entropy_share"))

# Causes stand above what follows from them: of two symptoms of one level the upper one is named first.
SYMPTOMS = (
    Symptom(
        "not_finite", "A number is not finite", STRONG, ((_above("not_finite"),),),
        "An observation, a reward or a loss is infinite or NaN (not a number). Of a loss: somewhere a step was far too "
        "large, or a number was divided by zero.",
        "Look first at what the other findings say; then lower the learning rates, and look for rewards or "
        "observations that are huge or NaN. tfsac leaves the batch that led to it in non_finite.npz.",
        _LEARNING,
    ),
    Symptom(
        "entropy_without_end", "The entropy falls without end", STRONG, ((_above("entropy_depth"),),),
        "The policy is rewarded for being certain: the entropy has the wrong sign, in the policy's loss, in the value "
        "of the next state, or in both.",
        "The value of a state is Q - alpha log pi, and the policy's loss is alpha log pi - Q. Check both signs.",
        (*_LEARNING, "policy_lowers_q", "target_still", "value_held_back", "value_of_other_actions", "rewards_large",
         "rewards_small", "time_limit", "alpha_explodes", "alpha_backwards"),
    ),
    Symptom(
        "policy_lowers_q", "The policy lowers Q instead of raising it", STRONG, ((_below("loss_sign"),),),
        "The policy's loss moves with Q and not against it: the policy looks for the worst action.",
        "The policy's loss is alpha log pi - Q, to be made small. Check the sign of Q in it.",
        (*_LEARNING, "value_of_other_actions", "rewards_large"),
    ),
    Symptom(
        "entropy_too_high", "The entropy is higher than it can be", STRONG, ((_above("entropy_excess"),),),
        "No density over actions between -1 and 1 has more than log 2 = 0.69 nats for each. The log-probability lacks "
        "the correction for the tanh that squashes the actions, or actions are scaled after it without a correction.",
        "Subtract sum log(1 - tanh(u)^2) from the Gaussian's log-probability of u, the action before the tanh.",
        ("rewards_small", "saturated", "q_bias", "alpha_explodes", "target_still", "value_held_back"),
    ),
    Symptom(
        "reward_unseen", "Nearly every episode returns the same", STRONG, ((_below("other_returns"),),),
        "Training episodes return what the first one did: random actions do not find the reward, and there is nothing "
        "to learn from.",
        "Hold each action for longer while it trains (StickyAction in env.training_wrappers), ask for an action less "
        "often, start nearer to the goal, or reward the way to it; see that the environment gives its reward at all.",
        ("q_same_everywhere", "time_limit", "policy_has_no_gradient", "rewards_small", "rewards_large", "q_bias",
         "policy_gradient_vanishes", "evaluation_gap", "target_still"),
    ),
    Symptom(
        "value_held_back", "V is held back", STRONG, ((*_STILL, _above("value_loss", "value_loss_held")),),
        "Q does not grow beyond the first rewards, and V does not reach the values that it should learn: the moving "
        "average is written into V and not into its target, so that each step is undone.",
        "The target moves towards V: target <- tau V + (1 - tau) target. V itself is moved by its loss alone.",
        (*_LEARNING, "target_still", "policy_has_no_gradient", "value_of_other_actions", "rewards_small"),
    ),
    Symptom(
        "target_still", "The target does not move", STRONG, (_STILL,),
        "Q stays at about one step's reward: the value of the next state comes from a target network that never "
        "changes.",
        "After each gradient step: target <- tau online + (1 - tau) target. See that it runs, on the right pair of "
        "networks, and that tau is not nearly 0.",
        (*_LEARNING, "policy_has_no_gradient", "rewards_small"),
    ),
    Symptom(
        "q_same_everywhere", "Q is the same everywhere", STRONG, ((_above("q_loss_floor"), *_AT_MAXIMUM),),
        "The loss of Q has never come down, and the policy stays as random as it can be: Q predicts the mean for every "
        "state and action. This happens if the prediction has shape [B] and the target [B, 1]: their difference is a "
        "matrix [B, B].",
        "Compare the shapes of prediction and target in the loss of Q. If they are equal: look for observations that "
        "say nothing, or a learning rate of Q that is far too small or too large.",
        (*_LEARNING, "policy_has_no_gradient", "time_limit", "value_of_other_actions"),
    ),
    Symptom(
        "time_limit", "A time limit is taken as the end", STRONG,
        (
            (_above("limit_error"), _above("relative_q_error"), _above("limit_trace", "relative_q_error")),
            (_above("terminal_ends"),),
        ),
        "Every episode has the same length, and its last step is taken as terminal: as if nothing came after it, while "
        "the state does not say that the time is up. Q cannot foresee it.",
        "Put `terminated` alone into the replay, not `terminated or truncated`. In an environment of your own, leave "
        "the time limit to Gymnasium (max_episode_steps) and return terminated=False for it. If the task itself ends "
        "then, let the observation say how much time is left.",
        ("value_of_other_actions", "q_bias", "setback"),
    ),
    Symptom(
        "policy_has_no_gradient", "The policy gets no gradient from Q", STRONG, (_AT_MAXIMUM,),
        "The policy stays as random as it can be, although the rewards count for far more than the entropy: Q's "
        "preference for an action does not reach it.",
        "The action in the policy's loss must be a differentiable sample, tanh(mu + sigma eps), and no stop_gradient, "
        "detach or numpy may stand between it and Q. Check, too, that Q depends on the action.",
        (*_LEARNING, "value_of_other_actions"),
    ),
    Symptom(
        "value_of_other_actions", "V is learned from other actions than the policy's", STRONG,
        ((_above("value_loss"),),),
        "The loss of V stays high: in its target, Q and the log-probability are of different actions. Often Q is of "
        "the replay's old actions.",
        "For V's target draw fresh actions from the policy at the replay's states, and take Q and log pi of the same "
        "sample.",
        ("q_bias",),
    ),
    Symptom(
        "alpha_backwards", "Alpha moves the wrong way", STRONG, ((_below("alpha_sign"),),),
        "Alpha falls where the entropy is below its target, or rises where it is above: it dies or grows without end.",
        "The loss of alpha is -log alpha (log pi + target entropy), log pi without gradient. Check its sign, and that "
        "the target is negative (minus the number of actions), not positive.",
        (*_LEARNING, "alpha_explodes", "rewards_small", "rewards_large"),
    ),
    Symptom(
        "rewards_small", "The rewards are too small beside the entropy", STRONG,
        ((_above("entropy_share_to_come"), _below("entropy_gap", "entropy_near")),),
        "Being random pays more than the task does, so that the policy stays random and Q mostly counts entropy.",
        "Multiply the rewards (sac_v1: raise reward_scale, and see that the code applies it), or let alpha be learned, "
        "with a higher alpha_learning_rate or a smaller initial_alpha. If alpha is still falling, it may be enough to "
        "train on.",
        ("q_bias", "policy_gradient_vanishes"),
    ),
    Symptom(
        "rewards_large", "The rewards are too large beside the entropy", STRONG,
        (
            (_below("exchange", "exchange_now"),),
            (_below("exchange_at_first", "exchange_low"), _above("alpha_growth")),
        ),
        "The entropy counts for nothing beside the rewards, or did until alpha had grown as large as they are: the "
        "policy settles too early, its actions go to their bounds, and errors of Q are huge.",
        "Divide the rewards (sac_v1: lower reward_scale) until a step brings about 1.",
        ("alpha_explodes", "q_gradient_explodes", "saturated", "q_bias"),
    ),
    Symptom(
        "alpha_explodes", "Alpha grows without end", STRONG, ((_above("alpha_growth"),),),
        "The entropy stays below its target whatever alpha does: rewards are very large, or the target is higher than "
        "the entropy can be.",
        "Divide the rewards; see that target_entropy is below log 2 for each action (minus the number of actions is "
        "usual).",
    ),
    Symptom(
        "q_bias", "Q is far from what rewards and entropy add up to", POSSIBLE,
        ((_above("q_bias", "q_bias_high"),), (_below("q_bias", "q_bias_low"),)),
        "After this many gradient steps, Q should be about the sum of the replay's rewards, discounted and with the "
        "entropy's share. It is far from that.",
        "If Q is too high: take the smaller of two Q. In any case: are rewards scaled in one place and not in another, "
        "is the discount applied once, is `terminated` right?",
    ),
    Symptom(
        "observations_differ", "Observations differ widely in size", POSSIBLE,
        ((_above("largest_observation"),), (_below("smallest_observation"),)),
        "A network learns slowly from a small number beside large ones.",
        "Bring all to about 1, with the setting below, or in the environment.",
    ),
    Symptom(
        "saturated", "Actions sit at their bounds", POSSIBLE, ((_above("saturation"),),),
        "Most actions are at a bound, where the tanh is flat and gradients vanish. Some tasks want that (bang-bang "
        "control); otherwise rewards are too large, or alpha too small.",
        "Look at the return: if it is good, nothing is wrong. If not, divide the rewards or raise alpha.",
    ),
    Symptom(
        "q_gradient_explodes", "The gradient of Q explodes", POSSIBLE, ((_above("q_gradient"),),),
        "The gradient steps of Q are large compared with its values.",
        "Lower q_learning_rate; look for rewards that are rare and huge, which ClipReward in env.training_wrappers "
        "bounds.",
    ),
    Symptom(
        "policy_gradient_vanishes", "The gradient of the policy vanishes", POSSIBLE, ((_below("policy_gradient"),),),
        "The policy hardly changes any more: Q does not depend on the action, or the tanh is saturated.",
        "If the return is good, the policy is finished. If not, see the other findings.",
    ),
    Symptom(
        "evaluation_gap", "Evaluation is far below training", POSSIBLE, ((_below("evaluation_gap"),),),
        "The deterministic policy earns much less than the same policy with its noise did while it was trained.",
        "Is evaluation's environment the same, with the same observations and the same scale of actions? Does it use "
        "tanh(mu)?",
    ),
    Symptom(
        "setback_large", "The return has fallen back", POSSIBLE, ((_above("setback", "setback_large"),),),
        "The return has fallen further from its best than in any healthy run of the project.",
        "Keep the best checkpoint; train on and see whether it recovers. With a smaller learning rate this is rarer.",
        ("setback",),
    ),
    Symptom(
        "setback", "The return has fallen back", NOTE, ((_above("setback"),),),
        "The return is below its best. Healthy runs have that, too, and recover.",
        "Wait.",
    ),
    Symptom(
        "replay_forgets", "The replay forgets", NOTE, ((_below("share_held"),),),
        "The replay is full, and what came first has been dropped. Healthy runs of the project keep everything; how "
        "little is too little was not measured.",
        "If it holds only a few episodes, raise replay_capacity.",
    ),
    Symptom(
        "observation_constant", "An observation never changes", NOTE, ((_above("constant_observations"),),),
        "A number that never changes says nothing. It does no harm either, unless it should have changed.",
        "Check that the sensor works, or leave it out.",
    ),
)  # fmt: skip
