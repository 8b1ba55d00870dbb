//! `loom:host/job`.

use loom_engine::output::OutputSink;
use loom_engine::port::Step;
use wasmtime::component::Resource;

use crate::bindings::loom::host::job::{Host, HostJob, HostStep};
use crate::guest::Guest;
use crate::imports::types::Sink;

/// The guest's own job: it has no other.
#[expect(unreachable_pub, reason = "the generated bindings re-export it")]
pub struct JobHandle;

/// A step that runs.
#[expect(unreachable_pub, reason = "the generated bindings re-export it")]
pub struct StepHandle {
    pub(crate) step: Step,
}

impl Host for Guest {}

impl HostJob for Guest {
    fn id(&mut self, _job: Resource<JobHandle>) -> wasmtime::Result<String> {
        Ok(self.job()?.id.to_string())
    }

    fn name(&mut self, _job: Resource<JobHandle>) -> wasmtime::Result<String> {
        Ok(self.job()?.name.clone())
    }

    fn run_id(&mut self, _job: Resource<JobHandle>) -> wasmtime::Result<String> {
        Ok(self.job()?.ids.run_id.to_string())
    }

    fn pipeline_id(&mut self, _job: Resource<JobHandle>) -> wasmtime::Result<String> {
        Ok(self.job()?.ids.pipeline_id.to_string())
    }

    fn head_sha(&mut self, _job: Resource<JobHandle>) -> wasmtime::Result<Option<String>> {
        Ok(self.job()?.head_sha.clone())
    }

    fn keyword(&mut self, _job: Resource<JobHandle>) -> wasmtime::Result<String> {
        // A wrapper has its own; a provider those of the job.
        Ok(if self.keyword.is_null() { self.job()?.keywords.to_string() } else { self.keyword.to_string() })
    }

    fn stage(&mut self, _job: Resource<JobHandle>) -> wasmtime::Result<String> {
        Ok(self.job()?.stage.clone())
    }

    fn image(&mut self, _job: Resource<JobHandle>) -> wasmtime::Result<Option<String>> {
        Ok(self.job()?.image.clone())
    }

    fn variables(&mut self, _job: Resource<JobHandle>) -> wasmtime::Result<Vec<(String, String)>> {
        let job = self.job()?;
        Ok(self.job_variables(job).to_vec())
    }

    fn predefined(&mut self, _job: Resource<JobHandle>) -> wasmtime::Result<Vec<(String, String)>> {
        Ok(self.job()?.predefined())
    }

    fn debug_trace(&mut self, _job: Resource<JobHandle>) -> wasmtime::Result<bool> {
        Ok(self.job()?.debug_trace)
    }

    fn drop(&mut self, job: Resource<JobHandle>) -> wasmtime::Result<()> {
        self.table.delete(job)?;
        Ok(())
    }
}

impl HostStep for Guest {
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

impl Guest {
    fn sink(&mut self, output: OutputSink) -> wasmtime::Result<Resource<Sink>> {
        Ok(self.table.push(Sink::new(output, self.call))?)
    }
}
