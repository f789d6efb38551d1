"""The kinds of networks that a run can train: how the two networks of each are built, and their arguments read off."""

from glcic_tf.common.errors import UserError
from glcic_tf.networks import completion, context_encoder, discriminator


class Glcic:
    """The paper's completion network and context discriminator."""

    @staticmethod
    def build_completion(**arguments):
        """Build C with the arguments of `completion.completion_network`."""
        return completion.completion_network(**arguments)

    @staticmethod
    def completion_arguments(model):
        """Return the arguments that a C was built with, as JSON values; ValueError or AttributeError if it is no C."""
        return completion.completion_arguments(model)

    @staticmethod
    def build_discriminator(config, stage, source, **arguments):
        """Build D for a stage.

        Args:
            config: config.discriminator.
            stage: stages.Stage.
            source: network whose arguments D gets, see `discriminator_file.load`; None: the config's.
            arguments: `synchronized` and `dtype`.

        Raises:
            UserError: the source is for other sizes.
        """
        sizes = {"image_size": stage.image_size, "patch_size": stage.patch_size}
        own = sizes | {
            "width": config.width,
            "use_global": config.use_global,
            "use_local": config.use_local,
            "global_convolutions": config.global_convolutions or None,
            "local_convolutions": config.local_convolutions or None,
        }
        if source is not None:
            own = discriminator.discriminator_arguments(source)
            if {name: own[name] for name in sizes} != sizes:
                raise UserError(
                    f"config.discriminator.init_from={config.init_from}: is for {own['image_size']} px and patches of "
                    f"{own['patch_size']} px; stage {stage.name} has {stage.image_size} and {stage.patch_size}."
                )
        return discriminator.context_discriminator(**own, **arguments)


class ContextEncoder:
    """The Context Encoder and its discriminator, whose patch is the middle; `network_checks` checks the sizes."""

    @staticmethod
    def build_completion(**arguments):
        """Build it with the arguments of `context_encoder.context_encoder`."""
        return context_encoder.context_encoder(**arguments)

    @staticmethod
    def completion_arguments(model):
        """As Glcic's."""
        return context_encoder.context_encoder_arguments(model)

    @staticmethod
    def build_discriminator(config, stage, source, **arguments):
        """As Glcic's; the stage and the source are ignored."""
        del stage, source
        return context_encoder.centre_discriminator(config.width, **arguments)


KINDS = {"glcic": Glcic, "context_encoder": ContextEncoder}
