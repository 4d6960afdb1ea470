//! What can go wrong in a runtime. `reason()` is the word that users see in `kubectl get pods`.

#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// The reference cannot be parsed.
    #[error("couldn't parse image name {reference:?}: {why}")]
    InvalidImageName { reference: String, why: String },
    /// The registry could not be reached, refused us, or does not have the image.
    #[error("failed to pull image {reference:?}: {why}")]
    Pull { reference: String, why: String },
    /// Not on this node, and pulling was not allowed.
    #[error("container image {reference:?} is not present with pull policy of Never")]
    ImageNeverPull { reference: String },
    /// The module imports what this node does not provide, is malformed, or cannot be compiled.
    #[error("{why}")]
    Unrunnable { why: String },
    /// Its compiled code cannot be had now: the compile service is away, busy for too long, or sent what is not signed.
    #[error("{why}")]
    Compile { why: String },
    #[error("failed to create sandbox: {why}")]
    Sandbox { why: String },
    #[error("failed to create container: {why}")]
    Create { why: String },
    #[error("failed to start container: {why}")]
    Start { why: String },
    /// No such pod or container here.
    #[error("{what} not found")]
    NotFound { what: String },
    /// The worker that runs it does not answer; the agent looks again.
    #[error("runtime is unavailable: {why}")]
    Unavailable { why: String },
    /// This runtime cannot do that.
    #[error("{what} is not supported by this container's runtime")]
    Unsupported { what: String },
}

impl RuntimeError {
    /// The waiting reason in a container's status.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::InvalidImageName { .. } => "InvalidImageName",
            Self::Pull { .. } => "ErrImagePull",
            Self::ImageNeverPull { .. } => "ErrImageNeverPull",
            Self::Unrunnable { .. } | Self::Create { .. } => "CreateContainerError",
            Self::Compile { .. } => "CompileError",
            Self::Sandbox { .. } => "CreatePodSandboxError",
            Self::Start { .. } => "RunContainerError",
            Self::NotFound { .. } | Self::Unavailable { .. } | Self::Unsupported { .. } => "RuntimeUnavailable",
        }
    }
    pub fn is_retryable(&self) -> bool {
        !matches!(self, Self::InvalidImageName { .. })
    }
}
