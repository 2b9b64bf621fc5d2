//! Parity of ResNets and of what learns on their maps.

mod contrast;
mod layouts;
mod optim;
mod resnet;
