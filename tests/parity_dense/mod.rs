//! Parity of ResNets and of what learns on their maps.

mod resnet;
