//! From settings to an open endpoint with all its buffers registered. On the endpoint's own thread.

use crate::bell::Bell;
use crate::error::FabricError;
use crate::landing::{Pool, Target};
use crate::library::{Library, PROVIDERS_HARDWARE, Provider, is_known};
use crate::limits::KEY_ATTEMPTS;
use crate::settings::EndpointSettings;
use crate::sys::{Code, LandingMemory, Offer, RawEndpoint, Region, SendMemory, Wish, offers};

/// A send buffer that nothing is sent from.
pub(crate) struct SendBuffer {
    pub(crate) memory: SendMemory,
    pub(crate) region: Region,
}

/// Everything that the driver starts with.
pub(crate) struct Opened {
    pub(crate) raw: RawEndpoint,
    pub(crate) provider: Provider,
    pub(crate) pool: Pool,
    pub(crate) send_buffers: Vec<SendBuffer>,
    pub(crate) copies: bool,
    pub(crate) own_address: Vec<u8>,
}

pub(crate) fn open(library: &Library, settings: &EndpointSettings) -> Result<Opened, FabricError> {
    settings.check()?;
    let (mut raw, provider) = open_any(library, settings)?;
    let mode = raw.offer().memory_mode();
    let system = |what| move |source| FabricError::System { what, source };
    let failed = |code: Code| registration_error(library, settings.landing_bytes, code);
    let mut targets = Vec::new();
    for _ in 0..settings.landing_count {
        let memory = LandingMemory::create(settings.landing_bytes).map_err(system("memory for landings"))?;
        targets.push(register(&mut raw, memory).map_err(|(_, code)| failed(code))?);
    }
    let copies = settings.always_copy || mode.local;
    let mut send_buffers = Vec::new();
    for _ in 0..if copies { settings.send_count } else { 0 } {
        let memory = SendMemory::create(settings.send_bytes).map_err(system("memory for sending"))?;
        let region = with_key(&mut raw, |raw, key| raw.register_send(&memory, key))
            .map_err(|code| registration_error(library, settings.send_bytes, code))?;
        send_buffers.push(SendBuffer { memory, region });
    }
    let own_address = raw.address().map_err(|code| library.error("fi_getname", code))?;
    let bell = Bell::new().map_err(system("an eventfd"))?;
    let landing_bytes = u32::try_from(settings.landing_bytes).expect("checked against its limit");
    let pool = Pool::new(own_address.clone(), landing_bytes, bell, targets);
    Ok(Opened { raw, provider, pool, send_buffers, copies, own_address })
}

fn registration_error(library: &Library, bytes: usize, code: Code) -> FabricError {
    FabricError::Registration { bytes, text: library.symbols.text(code) }
}

/// The first offer of a provider that is wanted and opens. If none does, why the last did not.
fn open_any(library: &Library, settings: &EndpointSettings) -> Result<(RawEndpoint, Provider), FabricError> {
    let choice = &settings.choice;
    let named = choice.provider.as_deref();
    if let Some(unknown) = named.filter(|name| !is_known(name)) {
        return Err(FabricError::ProviderUnknown(unknown.to_owned()));
    }
    let wanted = named.map_or_else(|| PROVIDERS_HARDWARE.to_vec(), |named| vec![named]);
    let mut error = FabricError::ProviderAbsent { wanted: wanted.join(" or ") };
    for provider in wanted {
        let wish =
            Wish { provider: Some(provider), domain: choice.domain.as_deref(), source: choice.source.as_deref() };
        let mut found = offers(&library.symbols, wish).map_err(|code| library.error("fi_getinfo", code))?;
        // Libraries take a name as a part of one.
        found.retain(|offer| offer.provider() == provider);
        found.sort_by_key(|offer| offer.fabric() != "efa-direct");
        for offer in found {
            match open_one(library, offer) {
                Ok(opened) => return Ok(opened),
                Err(reason) => error = reason,
            }
        }
    }
    Err(error)
}

fn open_one(library: &Library, offer: Offer) -> Result<(RawEndpoint, Provider), FabricError> {
    let provider = Provider::new(&offer, true);
    if offer.memory_mode().unknown || offer.pieces_max() == 0 || offer.write_bytes_max() == 0 {
        return Err(FabricError::ProviderDemands { provider: provider.name });
    }
    let wait = !provider.may_be_polled();
    match RawEndpoint::open(offer, wait) {
        Ok(raw) => Ok((raw, Provider { can_wait: wait, ..provider })),
        Err(("fi_cq_open" | "fi_control(FI_GETWAIT)", _)) => Err(FabricError::NoDescriptor { provider: provider.name }),
        Err((call, code)) => Err(library.error(call, code)),
    }
}

/// Registers a landing under a key of its own. On failure the memory comes back.
pub(crate) fn register(raw: &mut RawEndpoint, memory: LandingMemory) -> Result<Target, (LandingMemory, Code)> {
    match with_key(raw, |raw, key| raw.register_landing(&memory, key)) {
        Ok((region, key)) => {
            let address = raw.remote_address(&memory);
            Ok(Target { memory, region, key, address })
        }
        Err(code) => Err((memory, code)),
    }
}

/// Random keys until one is free: that nobody guesses a key is part of what protects a landing.
fn with_key<T>(
    raw: &mut RawEndpoint,
    mut register: impl FnMut(&mut RawEndpoint, u64) -> Result<T, Code>,
) -> Result<T, Code> {
    let mut result = Err(Code::KEY);
    for _ in 0..KEY_ATTEMPTS {
        let key = random_key(raw.offer().key_bytes()).ok_or(Code::AGAIN)?;
        result = register(raw, key);
        if !matches!(result, Err(Code::KEY)) {
            break;
        }
    }
    result
}

/// As many random bits as a key has.
fn random_key(bytes: usize) -> Option<u64> {
    let mut random = [0; 8];
    let filled = rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty()).ok()?;
    let unused_bits = 64 - 8 * u32::try_from(bytes.clamp(1, 8)).expect("at most 8");
    (filled == random.len()).then(|| u64::from_le_bytes(random) >> unused_bits)
}
