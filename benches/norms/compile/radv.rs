//! Mesa's driver of AMD GPUs on a device that is not there. It compiles for any family, and says what it made of a kernel.
#![expect(unsafe_code)]

use std::ffi::{CStr, c_char};
use std::fs;
use std::path::PathBuf;

use anyhow::{Context, bail};
use ash::{Device, Entry, Instance, khr, vk};
use wgpu_norm::{Access, Launch};

/// The variable by which the driver pretends to be on a GPU of a family.
pub const FAMILY: &str = "RADV_FORCE_FAMILY";

/// The variables by which the Vulkan loader takes one driver alone; the second is that of old loaders.
pub const DRIVER: [&str; 2] = ["VK_DRIVER_FILES", "VK_ICD_FILENAMES"];

/// The driver's manifest, where distributions put it.
pub fn manifest() -> anyhow::Result<PathBuf> {
    let folders = [
        "/usr/share/vulkan/icd.d",
        "/usr/local/share/vulkan/icd.d",
        "/etc/vulkan/icd.d",
    ];
    let files = folders
        .into_iter()
        .filter_map(|folder| fs::read_dir(folder).ok())
        .flatten();
    let radv = files.flatten().map(|file| file.path()).find(|path| {
        let name = path
            .file_name()
            .map(|name| name.to_string_lossy().into_owned());
        name.is_some_and(|name| name.starts_with("radeon_icd") && name.ends_with(".json"))
    });
    radv.context(
        "no RADV here, Mesa's driver of AMD GPUs, whose compiler --compile asks; on Linux: apt-get install mesa-vulkan-drivers",
    )
}

/// What the compiler made of one kernel.
pub struct Compiled {
    /// The driver's figures, by its names.
    pub statistics: Vec<(String, f64)>,
    /// The machine code as text.
    pub isa: String,
}

/// The loader, and an instance of it.
struct Loaded {
    instance: Instance,
    // Keeps the loader's library in memory, longer than the instance.
    _entry: Entry,
}

impl Drop for Loaded {
    fn drop(&mut self) {
        // SAFETY: its device, if there was one, has been destroyed before it.
        unsafe { self.instance.destroy_instance(None) }
    }
}

pub struct Radv {
    device: Device,
    executables: khr::pipeline_executable_properties::Device,
    /// Whether kernels may have the type f16.
    pub native_f16: bool,
    // Dropped after the device is destroyed.
    _loaded: Loaded,
}

fn text(name: &[c_char]) -> String {
    let bytes = name.iter().take_while(|&&c| c != 0).map(|&c| c as u8);
    String::from_utf8_lossy(&bytes.collect::<Vec<_>>()).into_owned()
}

impl Radv {
    /// Opens the device that the environment names.
    pub fn open() -> anyhow::Result<Self> {
        // SAFETY: the loader's library is trusted as by wgpu, and stays loaded as long as the entry.
        let entry = unsafe { Entry::load() }.context("no Vulkan loader")?;
        let application = vk::ApplicationInfo::default().api_version(vk::API_VERSION_1_2);
        let info = vk::InstanceCreateInfo::default().application_info(&application);
        // SAFETY: the structures that `info` points to outlive the call.
        let instance =
            unsafe { entry.create_instance(&info, None) }.context("no Vulkan instance")?;
        let loaded = Loaded {
            instance,
            _entry: entry,
        };
        let instance = &loaded.instance;
        // SAFETY: the instance is alive, here and below.
        let found = unsafe { instance.enumerate_physical_devices() }?;
        let Some(&physical) = found.first() else {
            bail!("the driver knows no such family");
        };
        let wanted: [&CStr; 1] = [khr::pipeline_executable_properties::NAME];
        let names = wanted.map(CStr::as_ptr);
        let mut info = vk::PhysicalDevicePipelineExecutablePropertiesFeaturesKHR::default()
            .pipeline_executable_info(true);
        let mut half = vk::PhysicalDeviceShaderFloat16Int8Features::default();
        let mut words = vk::PhysicalDevice16BitStorageFeatures::default();
        let mut offered = vk::PhysicalDeviceFeatures2::default()
            .push_next(&mut half)
            .push_next(&mut words);
        // SAFETY: the structures that `offered` points to outlive the call.
        unsafe { instance.get_physical_device_features2(physical, &mut offered) };
        let native_f16 = half.shader_float16 != 0 && words.storage_buffer16_bit_access != 0;
        let mut half =
            vk::PhysicalDeviceShaderFloat16Int8Features::default().shader_float16(native_f16);
        let mut words = vk::PhysicalDevice16BitStorageFeatures::default()
            .storage_buffer16_bit_access(native_f16);
        // As wgpu.
        let features = vk::PhysicalDeviceFeatures::default().robust_buffer_access(true);
        let queue = vk::DeviceQueueCreateInfo::default().queue_priorities(&[1.0]);
        let queues = [queue];
        let create = vk::DeviceCreateInfo::default()
            .queue_create_infos(&queues)
            .enabled_extension_names(&names)
            .enabled_features(&features)
            .push_next(&mut half)
            .push_next(&mut words)
            .push_next(&mut info);
        // SAFETY: the structures that `create` points to outlive the call.
        let device = unsafe { instance.create_device(physical, &create, None) }?;
        Ok(Self {
            executables: khr::pipeline_executable_properties::Device::new(instance, &device),
            device,
            native_f16,
            _loaded: loaded,
        })
    }

    /// Compiles a kernel.
    pub fn compile(&self, launch: &Launch, spirv: &[u32]) -> anyhow::Result<Compiled> {
        let bindings: Vec<_> = launch
            .bindings
            .iter()
            .map(|binding| {
                let kind = match binding.access {
                    Access::Uniform => vk::DescriptorType::UNIFORM_BUFFER,
                    _ => vk::DescriptorType::STORAGE_BUFFER,
                };
                vk::DescriptorSetLayoutBinding::default()
                    .binding(binding.binding)
                    .descriptor_type(kind)
                    .descriptor_count(1)
                    .stage_flags(vk::ShaderStageFlags::COMPUTE)
            })
            .collect();
        let info = vk::DescriptorSetLayoutCreateInfo::default().bindings(&bindings);
        let name = format!("{}\0", launch.entry_point);
        let name = CStr::from_bytes_with_nul(name.as_bytes())?;
        let (mut set, mut layout, mut module, mut pipeline) = Default::default();
        // SAFETY: each object is made by this device; every structure outlives the call that reads it; the SPIR-V is valid,
        // because naga has written it.
        let compiled = unsafe {
            (|| {
                set = self.device.create_descriptor_set_layout(&info, None)?;
                let sets = [set];
                let info = vk::PipelineLayoutCreateInfo::default().set_layouts(&sets);
                layout = self.device.create_pipeline_layout(&info, None)?;
                let info = vk::ShaderModuleCreateInfo::default().code(spirv);
                module = self.device.create_shader_module(&info, None)?;
                let stage = vk::PipelineShaderStageCreateInfo::default()
                    .stage(vk::ShaderStageFlags::COMPUTE)
                    .module(module)
                    .name(name);
                let flags = vk::PipelineCreateFlags::CAPTURE_STATISTICS_KHR
                    | vk::PipelineCreateFlags::CAPTURE_INTERNAL_REPRESENTATIONS_KHR;
                let info = [vk::ComputePipelineCreateInfo::default()
                    .stage(stage)
                    .layout(layout)
                    .flags(flags)];
                let cache = vk::PipelineCache::null();
                let made = self.device.create_compute_pipelines(cache, &info, None);
                pipeline = made.map_err(|(_, error)| error)?[0];
                self.figures(pipeline)
            })()
        };
        // SAFETY: nothing uses them any more, and what was not made is null, which Vulkan takes.
        unsafe {
            self.device.destroy_pipeline(pipeline, None);
            self.device.destroy_shader_module(module, None);
            self.device.destroy_pipeline_layout(layout, None);
            self.device.destroy_descriptor_set_layout(set, None);
        }
        compiled
    }

    /// What the driver says of a pipeline, which is alive and was made with both capture flags.
    unsafe fn figures(&self, pipeline: vk::Pipeline) -> anyhow::Result<Compiled> {
        let info = vk::PipelineExecutableInfoKHR::default().pipeline(pipeline);
        // SAFETY: the caller's promise.
        let statistics = unsafe { self.executables.get_pipeline_executable_statistics(&info) }?;
        let statistics = statistics.into_iter().map(|statistic| {
            // SAFETY: the format says which member is set.
            let value = unsafe {
                match statistic.format {
                    vk::PipelineExecutableStatisticFormatKHR::BOOL32 => statistic.value.b32.into(),
                    vk::PipelineExecutableStatisticFormatKHR::INT64 => statistic.value.i64 as f64,
                    vk::PipelineExecutableStatisticFormatKHR::UINT64 => statistic.value.u64 as f64,
                    _ => statistic.value.f64,
                }
            };
            (text(&statistic.name), value)
        });
        let statistics = statistics.collect();
        // SAFETY: the caller's promise; the last call writes no more bytes than the one before has asked for.
        let isa = unsafe { self.representation(&info) }?;
        Ok(Compiled { statistics, isa })
    }

    unsafe fn representation(
        &self,
        info: &vk::PipelineExecutableInfoKHR<'_>,
    ) -> anyhow::Result<String> {
        let function = self
            .executables
            .fp()
            .get_pipeline_executable_internal_representations_khr;
        let device = self.device.handle();
        let mut count = 0;
        // SAFETY: as the caller promises; a null pointer asks for the number.
        unsafe { function(device, info, &mut count, std::ptr::null_mut()) }.result()?;
        let mut all =
            vec![vk::PipelineExecutableInternalRepresentationKHR::default(); count as usize];
        // SAFETY: there are as many as the number says, without memory of their own: the driver tells the sizes.
        unsafe { function(device, info, &mut count, all.as_mut_ptr()) }.result()?;
        let mut texts: Vec<Vec<u8>> = all.iter().map(|one| vec![0; one.data_size]).collect();
        for (one, text) in all.iter_mut().zip(&mut texts) {
            one.p_data = text.as_mut_ptr().cast();
        }
        // SAFETY: each has memory of the size that it names.
        unsafe { function(device, info, &mut count, all.as_mut_ptr()) }.result()?;
        let assembly = all
            .iter()
            .zip(&texts)
            .find(|(one, _)| text(&one.name).contains("ssembly"));
        let (_, bytes) = assembly.context("the driver gives no assembly")?;
        let bytes = bytes.split(|&byte| byte == 0).next().unwrap_or_default();
        Ok(String::from_utf8_lossy(bytes).into_owned())
    }
}

impl Drop for Radv {
    fn drop(&mut self) {
        // SAFETY: `compile` destroys what it makes.
        unsafe { self.device.destroy_device(None) }
    }
}
