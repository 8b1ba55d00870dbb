//! `loom:host/job`.

use loom_engine::output::OutputSink;
use loom_engine::port::Step;
use serde_json::Value;
use wasmtime::component::{HasData, Linker, Resource, ResourceTable};

use self::wit::loom::host::job::{self, Host, HostJob, HostStep};
use crate::guest::{Guest, Kept, OwnJob};
use crate::types::Sink;

pub(crate) mod wit {
    wasmtime::component::bindgen!({
        path: "../../wit",
        interfaces: "import loom:host/job@0.1.0;",
        imports: { default: trappable },
        with: {
            "loom:host/types": crate::types::wit,
            "loom:host/job.job": super::JobHandle,
            "loom:host/job.step": super::StepHandle,
        },
    });
}

/// The guest's own job: it has no other.
#[expect(unreachable_pub, reason = "the generated bindings re-export it")]
pub struct JobHandle;

/// A step that runs.
#[expect(unreachable_pub, reason = "the generated bindings re-export it")]
pub struct StepHandle {
    pub(crate) step: Step,
}

/// The part of a guest that the functions work on.
pub(crate) struct View<'a> {
    job: &'a OwnJob,
    kept: &'a Kept,
    keyword: &'a Value,
    call: u64,
    table: &'a mut ResourceTable,
}

struct Job;

impl HasData for Job {
    type Data<'a> = View<'a>;
}

/// Offers the interface to guests.
pub(crate) fn link(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    job::add_to_linker::<_, Job>(linker, |guest| View {
        job: &guest.job,
        kept: &guest.kept,
        keyword: &guest.keyword,
        call: guest.call,
        table: &mut guest.table,
    })
}

impl Host for View<'_> {}

impl HostJob for View<'_> {
    fn id(&mut self, _job: Resource<JobHandle>) -> wasmtime::Result<String> {
        Ok(self.job.get()?.id.to_string())
    }

    fn name(&mut self, _job: Resource<JobHandle>) -> wasmtime::Result<String> {
        Ok(self.job.get()?.name.clone())
    }

    fn run_id(&mut self, _job: Resource<JobHandle>) -> wasmtime::Result<String> {
        Ok(self.job.get()?.ids.run_id.to_string())
    }

    fn pipeline_id(&mut self, _job: Resource<JobHandle>) -> wasmtime::Result<String> {
        Ok(self.job.get()?.ids.pipeline_id.to_string())
    }

    fn head_sha(&mut self, _job: Resource<JobHandle>) -> wasmtime::Result<Option<String>> {
        Ok(self.job.get()?.head_sha.clone())
    }

    fn keyword(&mut self, _job: Resource<JobHandle>) -> wasmtime::Result<String> {
        // A wrapper has its own; a provider those of the job.
        Ok(if self.keyword.is_null() {
            self.job.get()?.keywords.to_string()
        } else {
            self.keyword.to_string()
        })
    }

    fn stage(&mut self, _job: Resource<JobHandle>) -> wasmtime::Result<String> {
        Ok(self.job.get()?.stage.clone())
    }

    fn image(&mut self, _job: Resource<JobHandle>) -> wasmtime::Result<Option<String>> {
        Ok(self.job.get()?.image.clone())
    }

    fn variables(&mut self, _job: Resource<JobHandle>) -> wasmtime::Result<Vec<(String, String)>> {
        Ok(self.kept.docker.variables_of(self.job.get()?).to_vec())
    }

    fn predefined(&mut self, _job: Resource<JobHandle>) -> wasmtime::Result<Vec<(String, String)>> {
        Ok(self.job.get()?.predefined())
    }

    fn debug_trace(&mut self, _job: Resource<JobHandle>) -> wasmtime::Result<bool> {
        Ok(self.job.get()?.debug_trace)
    }

    fn drop(&mut self, job: Resource<JobHandle>) -> wasmtime::Result<()> {
        self.table.delete(job)?;
        Ok(())
    }
}

impl HostStep for View<'_> {
    fn index(&mut self, step: Resource<StepHandle>) -> wasmtime::Result<u32> {
        Ok(self.table.get(&step)?.step.index.number())
    }

    fn command(&mut self, step: Resource<StepHandle>) -> wasmtime::Result<String> {
        Ok(self.table.get(&step)?.step.command.clone())
    }

    fn stdout(&mut self, step: Resource<StepHandle>) -> wasmtime::Result<Resource<Sink>> {
        let output = self.table.get(&step)?.step.stdout.clone();
        self.sink(output)
    }

    fn stderr(&mut self, step: Resource<StepHandle>) -> wasmtime::Result<Resource<Sink>> {
        let output = self.table.get(&step)?.step.stderr.clone();
        self.sink(output)
    }

    fn drop(&mut self, step: Resource<StepHandle>) -> wasmtime::Result<()> {
        self.table.delete(step)?;
        Ok(())
    }
}

impl View<'_> {
    fn sink(&mut self, output: OutputSink) -> wasmtime::Result<Resource<Sink>> {
        Ok(self.table.push(Sink::new(output, self.call))?)
    }
}
