"""Optimisers, learning rates, and loss scaling that works on several replicas."""

import math

import keras
import tensorflow as tf

from glcic_tf.training import fused_optimizers
from glcic_tf.training.settings import OPTIMIZERS


def make_optimizer(spec, policy, variables):
    """Make and build the optimiser of `variables`; under mixed_float16 it scales the loss dynamically.

    Must run inside the strategy's scope: slots made later, inside the looped tf.function, break MirroredStrategy.
    """
    if spec.name == "adadelta":
        optimizer = fused_optimizers.Adadelta(spec.learning_rate, rho=spec.rho, epsilon=spec.epsilon)
    elif spec.name == "adam":
        optimizer = fused_optimizers.Adam(
            spec.learning_rate, beta_1=spec.beta_1, beta_2=spec.beta_2, epsilon=spec.epsilon
        )
    else:
        raise ValueError(f"Unknown optimiser {spec.name!r}; known: {', '.join(OPTIMIZERS)}.")
    if policy == "mixed_float16":
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
    optimizer.build(variables)
    return optimizer


def inner(optimizer):
    """The optimiser that holds the slots, without the wrapper for loss scaling."""
    return getattr(optimizer, "inner_optimizer", optimizer)


def loss_scale_variables(optimizer):
    """The variables of the loss scaling by name; empty if the loss is not scaled."""
    if inner(optimizer) is optimizer:
        return {}
    return {"scale": optimizer.dynamic_scale, "steps_since_change": optimizer.step_counter}


def carry_over(old, new):
    """Copy slots and counters of `old` into `new`, an optimiser of the same class over the same variables."""
    for source, target in zip(inner(old).variables, inner(new).variables, strict=True):
        target.assign(source)
    for name, source in loss_scale_variables(old).items():
        loss_scale_variables(new)[name].assign(source)


def learning_rate(spec, step, steps):
    """Learning rate at `step` (a tensor, counted from the stage's start) of `steps`, float32 scalar."""
    step = tf.cast(step, tf.float32)
    rate = tf.constant(spec.learning_rate, tf.float32)
    if spec.schedule == "cosine":
        progress = tf.clip_by_value((step - spec.warmup_steps) / max(steps - spec.warmup_steps, 1), 0.0, 1.0)
        rate *= spec.final_fraction + (1 - spec.final_fraction) * 0.5 * (1 + tf.cos(math.pi * progress))
    if spec.warmup_steps:
        rate *= tf.minimum((step + 1) / spec.warmup_steps, 1.0)
    return rate


def apply_gradients(optimizer, gradients, variables, clip_norm=0.0):
    """Update `variables` once, in replica context; gradients are summed over the replicas.

    If `clip_norm` is not 0 and the global norm of these sums is larger, they are scaled down to it. Keras' own clipping
    only looks at each replica's own gradients.

    Keras' LossScaleOptimizer tests each replica's own gradients before they are summed, and then goes by replica 0: an
    overflow on another replica would reach the weights. So replicas first share whether one has overflowed; if so, all
    their gradients become NaN: every replica skips the step and lowers its scale.
    """
    if inner(optimizer) is not optimizer:
        finite = tf.reduce_all([tf.reduce_all(tf.math.is_finite(g)) for g in gradients])
        overflows = tf.distribute.get_replica_context().all_reduce(
            tf.distribute.ReduceOp.SUM, tf.cast(tf.logical_not(finite), tf.float32)
        )
        gradients = [tf.where(overflows > 0, tf.cast(math.nan, g.dtype), g) for g in gradients]
    if clip_norm:
        replica = tf.distribute.get_replica_context()
        alone = replica.num_replicas_in_sync == 1
        norm = tf.linalg.global_norm(gradients if alone else replica.all_reduce(tf.distribute.ReduceOp.SUM, gradients))
        limit = tf.cast(optimizer.scale_loss(clip_norm), norm.dtype)
        gradients = [g * (limit / tf.maximum(norm, limit)) for g in gradients]
    optimizer.apply(gradients, variables)
